//! The ring probe (resources/ring-probe): builds the module for the guests' kernel and runs it in a guest.
//!
//! The headers come from Debian's packages and are used where the cache has them: kbuild looks for everything
//! from the Makefile that it is started with, so that no installed path is asked for. Used by the families
//! `rings` of tests and measures.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::{self, Cache};
use crate::cpio::Archive;
use crate::kernel::Kernel;
use crate::lab::Lab;
use crate::packages::{self, Packages, run};
use crate::vm::Vm;
use crate::vmm::Guest;
use crate::{host, progress};

/// Programs that the build needs here, and their packages. The compiler is the one of Debian 12's kernels, which
/// their headers ask for by this name.
const TOOLS: [(&str, &str); 2] = [("make", "make"), ("gcc-12", "gcc-12")];

/// Of what the headers depend on, the packages that come along; a program of kbuild's is linked with libelf.
const NEEDS: [&str; 3] = ["linux-headers-", "linux-kbuild-", "libelf1"];

/// Debian's folder of shared libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Where guests have the module; resources/guest/tests/rings.sh loads it from there.
const MODULE: &str = "/ring_probe.ko";

/// The guest of the family: it has the loopback device and the module, and does what the host types.
pub fn guest(lab: &Lab) -> Result<Guest> {
    let cache = Cache::open()?;
    let mut archive = Archive::default();
    archive.copy(MODULE, &build(&cache, &lab.images.kernel)?)?;
    let both = [fs::read(&lab.images.base)?, archive.finish()].concat();
    let initrd = cache.content("images/guest-rings", &both)?;
    Ok(Guest::new("rings").probe(&initrd).append("lab.modules=hv_vmbus,hv_utils"))
}

/// Builds the module, or takes it from the cache.
fn build(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    packages::install_tools(&TOOLS)?;
    let packages = Packages::fetch(cache, &[&headers_package(kernel)], &NEEDS, |_, _| Ok(()))?;
    let headers = headers(cache, &packages)?;
    let sources = sources()?;
    let entry = cache::keyed("ring-probe/module", &(&headers, &sources));
    let folder = cache.entry(&entry, |folder| {
        let step = progress::step("Building the ring probe");
        fs::create_dir_all(folder)?;
        for (name, content) in &sources {
            fs::write(folder.join(name), content)?;
        }
        make(kernel, &headers, folder)?;
        step.done("built");
        Ok(())
    })?;
    Ok(folder.join("ring_probe.ko"))
}

fn headers_package(kernel: &Kernel) -> String {
    format!("linux-headers-{}", kernel.release)
}

/// The packages' trees in one, as they would be installed: they point to each other by relative links.
fn headers(cache: &Cache, packages: &Packages) -> Result<PathBuf> {
    let trees: Vec<&Path> = packages.trees("").collect();
    cache.entry(&cache::keyed("ring-probe/headers", &trees), |root| {
        fs::create_dir_all(root)?;
        for tree in &trees {
            run("cp", &["-al".as_ref(), tree.join(".").as_os_str(), root.as_os_str()], None)?;
        }
        Ok(())
    })
}

/// The module's sources, by name.
fn sources() -> Result<BTreeMap<String, Vec<u8>>> {
    let folder = host::workspace().join("resources/ring-probe");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let is_source = |path: &&PathBuf| {
        path.ends_with("Kbuild") || path.extension().is_some_and(|end| end == "c" || end == "h")
    };
    paths.iter().filter(is_source).map(|path| Ok((file_name(path), fs::read(path)?))).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs kbuild on the sources in `folder`.
fn make(kernel: &Kernel, headers: &Path, folder: &Path) -> Result<()> {
    let all = headers.join("usr/src");
    // The headers of all flavours, whose Makefile finds everything else from where it is.
    let common = fs::read_dir(&all)?.flatten().map(|entry| entry.path());
    let common =
        common.into_iter().find(|path| file_name(path).ends_with("-common")).context("no headers")?;
    let output = Command::new("make")
        .arg("-C")
        .arg(all.join(headers_package(kernel)))
        .arg("-f")
        .arg(common.join("Makefile"))
        .arg(format!("M={}", folder.display()))
        .arg("modules")
        .env("LD_LIBRARY_PATH", headers.join(LIBRARIES))
        .env_remove("MAKEFLAGS")
        .output()
        .context("run make")?;
    ensure!(output.status.success(), "the ring probe does not build:\n{}", text(&output.stderr));
    // Debug information is most of it.
    run("strip", &[OsStr::new("--strip-debug"), folder.join("ring_probe.ko").as_os_str()], None)?;
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// What the module said of one loading: `ok`, and its figures.
#[derive(Debug, Clone, Default)]
pub struct Said(BTreeMap<String, u64>);

impl Said {
    /// Takes apart `in=2 out=9 …`.
    fn parse(words: &str) -> Self {
        let pairs = words.split_whitespace().filter_map(|word| word.split_once('='));
        Self(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// A figure.
    pub fn figure(&self, name: &str) -> Result<u64> {
        self.0.get(name).copied().with_context(|| format!("the ring probe does not say its {name}"))
    }
}

/// Loads the module in a guest of [`guest`] and unloads it again.
pub fn load(vm: &mut Vm<'_>, parameters: &str) -> Result<Said> {
    vm.tell(parameters)?;
    let said = vm.expect("lab: probe ok ").with_context(|| format!("ring probe, {parameters}"))?;
    vm.expect("lab: ready")?;
    Ok(Said::parse(&said))
}

/// A device's row in the host's table of channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Times that the channel was opened.
    pub opens: u64,
    /// `GPADL=OUTGOING+INCOMING`, in pages.
    pub pages: String,
    /// `IN/OUT`, as the host counts: in is from the guest.
    pub packets: String,
    /// Exits to user space that the guest's signals cost.
    pub exits: u64,
}

impl Row {
    /// Takes apart what comes after the device's name: id, state, opens, pages, data bytes, packets, bytes,
    /// signals, exits.
    fn parse(line: &str) -> Option<Self> {
        match *line.split_whitespace().collect::<Vec<_>>() {
            [_, _, opens, pages, _, packets, _, _, exits] => Some(Self {
                opens: opens.parse().ok()?,
                pages: pages.to_owned(),
                packets: packets.to_owned(),
                exits: exits.parse().ok()?,
            }),
            _ => None,
        }
    }
}

/// Asks the host for its table of channels, and looks at one device.
pub fn table(vm: &mut Vm<'_>, device: &str) -> Result<Row> {
    vm.control("channels")?;
    // Names are padded, which tells the row from lines that speak of the device.
    let line = vm.expect_log(&format!("{device:<10} "))?;
    Row::parse(&line).with_context(|| format!("busman's table has the row {line:?}"))
}

/// Compares the host's row with what the guest asked for and counted.
pub fn check(row: &Row, said: &Said) -> Result<()> {
    let (incoming, outgoing) = (said.figure("in")?, said.figure("out")?);
    let pages = format!("{}={outgoing}+{incoming}", outgoing + incoming);
    ensure!(row.pages == pages, "the host's table shows pages {} instead of {pages}", row.pages);
    let packets = format!("{}/{}", said.figure("packets_out")?, said.figure("packets_in")?);
    ensure!(row.packets == packets, "the host counted packets {} instead of {packets}", row.packets);
    ensure!(row.exits == 0, "packets cost {} exits to user space", row.exits);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_agrees_is_accepted_and_others_are_not() {
        let said = Said::parse("in=2 out=9 payload=4064 packets_in=5 packets_out=7 bytes_in=80");
        let row = |pages: &str, packets: &str, exits: u64| {
            let line = format!("  7 open 1 {pages} 32768+4096 {packets} 1/2 3/4 {exits}");
            Row::parse(&line).unwrap()
        };
        assert!(check(&row("11=9+2", "7/5", 0), &said).is_ok());
        assert!(check(&row("11=2+9", "7/5", 0), &said).is_err());
        assert!(check(&row("11=9+2", "7/4", 0), &said).is_err());
        assert!(check(&row("11=9+2", "7/5", 1), &said).is_err());
        assert_eq!(Row::parse("7 open"), None);
    }
}

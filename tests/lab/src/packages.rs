//! Debian packages: some are installed (tools that run here), others only unpacked into the cache (kernels
//! and programs that run in guests). No kernel is ever installed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cache::Cache;
use crate::{host, progress};

/// Makes sure that the programs are there: each is a program's name and the package that has it.
pub fn install_tools(tools: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = tools
        .iter()
        .filter(|(program, _)| host::find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    if !host::is_root() {
        bail!("this machine lacks {}; as root: apt-get {}", missing.join(", "), arguments.join(" "));
    }
    update()?;
    let step = progress::step(format!("Missing here: {}; installing", missing.join(", ")));
    run("apt-get", &arguments, None)?;
    step.done("installed");
    Ok(())
}

/// Refreshes apt's lists. A broken third-party source is no reason to stop: what is needed may still be had.
fn update() -> Result<()> {
    if !host::is_root() {
        bail!("apt's package lists are missing or too old; as root: apt-get update");
    }
    let step = progress::step("Refreshing apt's package lists");
    match run("apt-get", &["update"], None) {
        Ok(_) => step.done("done"),
        Err(error) => step.done(&format!("with errors ({error:#})")),
    }
    Ok(())
}

/// The unpacked file trees of packages, in the cache.
#[derive(Debug)]
pub struct Packages {
    trees: BTreeMap<String, PathBuf>,
    dependencies: Dependencies,
}

/// What each package depends on.
type Dependencies = BTreeMap<String, Vec<String>>;

impl Packages {
    /// Fetches `wanted` and, of what they depend on, packages whose names start with one of `also`. A
    /// metapackage of a kernel is not fetched itself. `finish` may add to the tree of a package that is new.
    pub fn fetch(
        cache: &Cache,
        wanted: &[&str],
        also: &[&str],
        finish: impl Fn(&str, &Path) -> Result<()>,
    ) -> Result<Self> {
        let fetch = || Self::fetch_known(cache, wanted, also, &finish);
        fetch().or_else(|error| {
            // A new machine's lists are empty, and old lists name files that are gone.
            progress::say(&format!("Packages cannot be had with the lists that apt has: {error:#}"));
            update()?;
            fetch().context("the lab needs Debian's packages")
        })
    }

    fn fetch_known(
        cache: &Cache,
        wanted: &[&str],
        also: &[&str],
        finish: &impl Fn(&str, &Path) -> Result<()>,
    ) -> Result<Self> {
        let dependencies = dependencies(wanted)?;
        let mut trees = BTreeMap::new();
        for (name, archive) in archives(&closure(wanted, &dependencies, also))? {
            let entry = format!("packages/{}", archive.trim_end_matches(".deb"));
            let tree = cache.entry(&entry, |path| {
                let step = progress::step(format!("Fetching {name}"));
                unpack(&name, path)?;
                finish(&name, path)?;
                step.done("unpacked");
                Ok(())
            })?;
            trees.insert(name, tree);
        }
        Ok(Self { trees, dependencies })
    }

    /// The file tree of a package.
    pub fn tree(&self, package: &str) -> Result<&Path> {
        Ok(self.trees.get(package).with_context(|| format!("{package} was not fetched"))?)
    }

    /// The file trees of all packages whose names start with `prefix`.
    pub fn trees<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Path> {
        let ours = self.trees.iter().filter(move |(name, _)| name.starts_with(prefix));
        ours.map(|(_, tree)| tree.as_path())
    }

    /// The kernel package that a metapackage stands for.
    pub fn stands_for(&self, metapackage: &str) -> Result<&str> {
        let names = self.dependencies.get(metapackage).into_iter().flatten();
        let kernel = names.map(String::as_str).find(|name| name.starts_with("linux-image-"));
        kernel.with_context(|| format!("{metapackage} stands for no kernel"))
    }
}

fn dependencies(of: &[&str]) -> Result<Dependencies> {
    let all = parse(&run("apt-cache", &[&["depends", "--recurse", "--important"], of].concat(), None)?);
    for package in of {
        ensure!(all.contains_key(*package), "apt knows no {package}");
    }
    Ok(all)
}

/// Takes apart what `apt-cache depends` says.
fn parse(text: &str) -> Dependencies {
    let mut all = Dependencies::new();
    let mut package = String::new();
    for line in text.lines() {
        if let Some(name) = line.trim_start().strip_prefix("Depends: ") {
            all.entry(package.clone()).or_default().push(name.to_owned());
        } else if !line.starts_with(' ') {
            line.clone_into(&mut package);
            all.entry(package.clone()).or_default();
        }
    }
    all
}

fn closure(wanted: &[&str], dependencies: &Dependencies, also: &[&str]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open: Vec<&str> = wanted.to_vec();
    while let Some(name) = open.pop() {
        let needs = dependencies.get(name).into_iter().flatten().map(String::as_str);
        let is_metapackage = name.starts_with("linux-image-") && wanted.contains(&name);
        if is_metapackage || names.insert(name.to_owned()) {
            open.extend(needs.filter(|need| also.iter().any(|prefix| need.starts_with(prefix))));
        }
    }
    names
}

/// The file name of each package's newest version, which tells the version too.
fn archives(names: &BTreeSet<String>) -> Result<Vec<(String, String)>> {
    let mut arguments = vec!["download", "--print-uris"];
    arguments.extend(names.iter().map(String::as_str));
    let text = run("apt-get", &arguments, None)?;
    let files: Vec<&str> =
        text.lines().filter(|line| line.starts_with('\'')).filter_map(|l| l.split(' ').nth(1)).collect();
    let of = |name: &String| {
        let file = files.iter().find(|file| file.split('_').next() == Some(name.as_str()));
        Ok((
            name.clone(),
            (*file.with_context(|| format!("apt-get does not say where {name} is"))?).to_owned(),
        ))
    };
    names.iter().map(of).collect()
}

fn unpack(package: &str, to: &Path) -> Result<()> {
    let download = to.with_extension("download");
    std::fs::create_dir_all(&download)?;
    run("apt-get", &["download", package], Some(&download))?;
    let archive = std::fs::read_dir(&download)?.next().context("apt-get downloaded nothing")??.path();
    run("dpkg", &["-x".as_ref(), archive.as_os_str(), to.as_os_str()], None)?;
    std::fs::remove_dir_all(&download)?;
    Ok(())
}

/// Runs a program to its end and gives its output; its own words when it fails.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A], dir: Option<&Path>) -> Result<String> {
    let path = host::find_program(program).with_context(|| format!("{program} is not installed"))?;
    let mut command = Command::new(path);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C").stdin(Stdio::null());
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    let output = command.output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metapackage_is_left_out_and_its_kernel_comes_along() {
        let dependencies = parse(
            "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-1-cloud-amd64\n\
             linux-image-6.1.0-1-cloud-amd64\n  Depends: kmod\n  Depends: linux-base\n\
             kexec-tools\n  Depends: libc6\n |Depends: debconf\n    cdebconf\n  Depends: libxenmisc4\n\
             libxenmisc4\n  Depends: libxencall1\nlibxencall1\n",
        );
        let wanted = ["linux-image-cloud-amd64", "kexec-tools"];
        let names = closure(&wanted, &dependencies, &["linux-image-", "libxen"]);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(names, ["kexec-tools", "libxencall1", "libxenmisc4", "linux-image-6.1.0-1-cloud-amd64"]);
    }
}

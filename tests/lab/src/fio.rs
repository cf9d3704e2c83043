//! fio for guests, without the network storage that Debian's is linked with.
//!
//! Debian's fio needs the clients of Ceph, Gluster and others to start, 80 MB of libraries that no test uses. One
//! library of empty functions takes the place of all of them; what disks need (libaio, libnuma) is the real one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache::{self, Cache};
use crate::cpio::Archive;
use crate::packages::{self, Packages, run};
use crate::programs;

/// Programs that making the library needs here, and their packages; nm comes with the compiler.
const TOOLS: [(&str, &str); 1] = [("gcc-12", "gcc-12")];

/// fio's package, and the libraries that come along as they are.
pub const PACKAGES: [&str; 3] = ["fio", "libaio1", "libnuma1"];

/// The libraries that fio finds empty.
const EMPTY: [&str; 8] = [
    "libgfapi.so.0",
    "libibverbs.so.1",
    "libnbd.so.0",
    "libpmem.so.1",
    "libpmemblk.so.1",
    "librados.so.2",
    "librbd.so.1",
    "librdmacm.so.1",
];

/// Adds fio as /bin/fio.
pub fn add(cache: &Cache, packages: &Packages, archive: &mut Archive) -> Result<()> {
    packages::install_tools(&TOOLS)?;
    let program = packages.tree("fio")?.join("usr/bin/fio");
    let symbols =
        parse(&run("nm", &["-D".as_ref(), "--undefined-only".as_ref(), program.as_os_str()], None)?);
    let empty =
        cache.entry(&cache::keyed("fio/empty", &(&symbols, EMPTY)), |folder| build(&symbols, folder))?;
    let real = packages.trees("lib").map(|tree| tree.join(programs::LIBRARIES));
    let folders: Vec<PathBuf> = real.chain([empty]).collect();
    programs::add(archive, &program, "/bin/fio", &folders)
}

/// The names of the functions that fio takes from elsewhere, by version; the empty version for those without one.
type Symbols = BTreeMap<String, Vec<String>>;

/// Takes apart what nm says, and leaves out what libraries have that are not [`EMPTY`].
fn parse(text: &str) -> Symbols {
    let mut symbols = Symbols::new();
    for symbol in text.lines().filter_map(|line| line.trim_start().strip_prefix("U ")) {
        let (name, version) = symbol.split_once('@').unwrap_or((symbol, ""));
        if !["GLIBC_", "LIBAIO_", "libnuma_"].iter().any(|real| version.starts_with(real)) {
            symbols.entry(version.to_owned()).or_default().push(name.to_owned());
        }
    }
    symbols
}

/// Makes the empty library under all its names. zlib's functions have no version, so they are here as well, but fio
/// asks zlib first.
fn build(symbols: &Symbols, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let names = symbols.values().flatten();
    let source: String = names.map(|name| format!("void {name}(void) {{}}\n")).collect();
    let versioned = symbols.iter().filter(|(version, _)| !version.is_empty());
    let versions: String =
        versioned.map(|(version, names)| format!("{version} {{ {}; }};\n", names.join("; "))).collect();
    fs::write(folder.join("empty.c"), source)?;
    fs::write(folder.join("versions"), versions)?;
    let arguments = [
        "-shared",
        "-nostdlib",
        "-fno-builtin",
        "-Wl,--version-script=versions",
        "-o",
        "empty.so",
        "empty.c",
    ];
    run("gcc-12", &arguments, Some(folder))?;
    for name in EMPTY {
        fs::copy(folder.join("empty.so"), folder.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_functions_of_empty_libraries_are_made_up() {
        let text = "                 w __gmon_start__\n                 U close@GLIBC_2.2.5\n\
                    U io_submit@LIBAIO_0.1\n                 U rbd_close\n                 U nbd_close@LIBNBD_1.0\n";
        let symbols = parse(text);
        assert_eq!(symbols.get("").unwrap(), &["rbd_close"]);
        assert_eq!(symbols.get("LIBNBD_1.0").unwrap(), &["nbd_close"]);
        assert_eq!(symbols.len(), 2);
    }
}

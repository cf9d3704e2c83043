//! The guests' file trees: busybox, every Hyper-V module of the cloud kernel, and the scripts of resources/guest.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::cpio::Archive;
use crate::host;
use crate::kernel::{self, Kernel};
use crate::packages::Packages;
use crate::programs;

/// What a guest may load; their needs come along. The order in which it does is in resources/guest/lib.sh.
const MODULES: [&str; 15] = [
    "hv_vmbus",
    "hv_utils",
    "hv_balloon",
    "hv_storvsc",
    "sd_mod",
    "sr_mod",
    "hv_netvsc",
    "hyperv-keyboard",
    "hid-hyperv",
    "hyperv_fb",
    "hv_sock",
    "uio_hv_generic",
    "pci-hyperv",
    "cpuid",
    "msr",
];

/// The packages that guests are made of, and the names of those of their needs that come along: Debian's kexec is
/// linked with Xen's libraries.
pub const PACKAGES: [&str; 3] = [kernel::CLOUD, "busybox-static", "kexec-tools"];

/// See [`PACKAGES`].
pub const NEEDS: [&str; 2] = ["linux-image-", "libxen"];

/// Everything that a guest boots.
#[derive(Debug)]
pub struct Images {
    /// The kernel.
    pub kernel: Kernel,
    /// The file tree of most guests.
    pub base: PathBuf,
    /// The same with kexec, and a kernel for it.
    pub kexec: PathBuf,
}

impl Images {
    /// Takes the images from the cache, or makes them.
    pub fn prepare(cache: &Cache, packages: &Packages) -> Result<Self> {
        let kernel = Kernel::of(kernel::CLOUD, packages)?;
        let base = tree(packages, &kernel, &MODULES)?.finish();
        let mut kexec = Archive::default();
        kexec.copy("/kexec/vmlinuz", &kernel.bzimage)?;
        kexec.file("/kexec/initramfs", &base);
        add_kexec(packages, &mut kexec)?;
        let both = [&base[..], &kexec.finish()].concat();
        Ok(Self {
            kernel,
            base: cache.content("images/guest", &base)?,
            kexec: cache.content("images/guest-kexec", &both)?,
        })
    }
}

/// The file tree of a guest that runs this kernel and may load these modules.
pub fn tree(packages: &Packages, kernel: &Kernel, modules: &[&str]) -> Result<Archive> {
    let busybox = packages.tree("busybox-static")?;
    let mut archive = Archive::default();
    archive.copy("/bin/busybox", &busybox.join("bin/busybox"))?;
    archive.link("/bin/sh", "busybox");
    archive.link("/sbin/modprobe", "../bin/busybox");
    archive.device("/dev/console", 5, 1);
    add_these_modules(&mut archive, kernel, modules)?;
    let scripts = host::workspace().join("resources/guest");
    archive.copy("/init", &scripts.join("init"))?;
    archive.copy("/lib.sh", &scripts.join("lib.sh"))?;
    archive.copy("/sbin/poweroff", &scripts.join("poweroff"))?;
    archive.copy("/sbin/reboot", &scripts.join("reboot"))?;
    for name in names(&scripts.join("tests"))? {
        archive.copy(&format!("/tests/{name}"), &scripts.join("tests").join(&name))?;
    }
    Ok(archive)
}

/// The modules that every guest has and `more`, where the kernel's release says, with the part of modules.dep that
/// is about them.
pub fn add_modules(archive: &mut Archive, kernel: &Kernel, more: &[&str]) -> Result<()> {
    add_these_modules(archive, kernel, &[&MODULES, more].concat())
}

fn add_these_modules(archive: &mut Archive, kernel: &Kernel, modules: &[&str]) -> Result<()> {
    let folder = format!("/lib/modules/{}", kernel.release);
    let modules = kernel.modules(modules)?;
    for module in &modules {
        archive.copy(&format!("{folder}/{}", module.display()), &kernel.module_file(module))?;
    }
    let all = std::fs::read_to_string(kernel.module_file(Path::new("modules.dep")))?;
    let ours =
        |line: &&str| line.split(':').next().is_some_and(|path| modules.iter().any(|m| m == Path::new(path)));
    let dependencies: Vec<&str> = all.lines().filter(ours).collect();
    archive.file(&format!("{folder}/modules.dep"), (dependencies.join("\n") + "\n").as_bytes());
    Ok(())
}

/// kexec, with Xen's libraries, which come as packages of their own.
pub fn add_kexec(packages: &Packages, archive: &mut Archive) -> Result<()> {
    let program = packages.tree("kexec-tools")?.join("sbin/kexec");
    let folders: Vec<PathBuf> = packages.trees("libxen").map(|tree| tree.join(programs::LIBRARIES)).collect();
    programs::add(archive, &program, "/sbin/kexec", &folders)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn scripts_are_shell() {
        let folder = host::workspace().join("resources/guest");
        let tests = names(&folder.join("tests")).unwrap();
        let scripts = tests.iter().map(|name| format!("tests/{name}"));
        for script in scripts.chain(["init", "lib.sh", "poweroff", "reboot"].map(str::to_owned)) {
            let status = Command::new("sh").arg("-n").arg(folder.join(&script)).status().unwrap();
            assert!(status.success(), "{script}");
        }
    }

    #[test]
    fn what_scripts_load_is_in_the_image() {
        let lib = std::fs::read_to_string(host::workspace().join("resources/guest/lib.sh")).unwrap();
        let line = lib.lines().find_map(|line| line.strip_prefix("HYPERV_MODULES=")).unwrap();
        for module in line.trim_matches('"').split(' ') {
            assert!(MODULES.contains(&module), "{module}");
        }
    }
}

//! Debian's kernels: the stock one for L1 (it has kvm-amd), the cloud one for guests (it has Hyper-V's drivers).
//!
//! Unpacked from their packages, never installed. The ELF vmlinux inside a bzImage is extracted as well: it
//! boots through PVH, which spares an emulated CPU the decompression.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{Packages, run};

const VMLINUX: &str = "boot/vmlinux";

/// An unpacked kernel package.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    /// The package's file tree, with modules.dep added.
    pub tree: PathBuf,
    /// The compressed kernel, with its setup header.
    pub bzimage: PathBuf,
    /// The ELF inside.
    pub vmlinux: PathBuf,
}

/// The metapackage of L1's kernel.
pub const STOCK: &str = "linux-image-amd64";

/// The metapackage of the guests' kernel.
pub const CLOUD: &str = "linux-image-cloud-amd64";

impl Kernel {
    /// The kernel that a metapackage stands for.
    pub fn of(metapackage: &str, packages: &Packages) -> Result<Self> {
        let package = packages.stands_for(metapackage)?;
        let tree = packages.tree(package)?.to_owned();
        let release = release(package).to_owned();
        Ok(Self { bzimage: bzimage(&tree, &release), vmlinux: tree.join(VMLINUX), release, tree })
    }

    /// Adds what [`Self::of`] needs to the fresh tree of a kernel's package; other packages are left alone.
    pub fn finish(package: &str, tree: &Path) -> Result<()> {
        if !package.starts_with("linux-image-") {
            return Ok(());
        }
        let release = release(package);
        run("depmod", &["-b".as_ref(), tree.as_os_str(), release.as_ref()], None)?;
        extract(&bzimage(tree, release), &tree.join(VMLINUX))
    }

    /// The modules named and all that they need, each after its needs, as paths below lib/modules/RELEASE.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let folder = format!("/lib/modules/{}/", self.release);
        let mut seen = BTreeSet::new();
        let mut ordered = Vec::new();
        for name in names {
            let tree = self.tree.as_os_str();
            let show = ["-d".as_ref(), tree, "-S".as_ref(), self.release.as_ref(), "--show-depends".as_ref()];
            let text = run("modprobe", &[&show[..], &[name.as_ref()]].concat(), None)?;
            // Built-in ones have lines of another kind.
            for line in text.lines().filter_map(|line| line.strip_prefix("insmod ")) {
                let path = line.split(' ').next().and_then(|path| path.split_once(&folder));
                let path = PathBuf::from(path.with_context(|| format!("modprobe says {line:?}"))?.1);
                if seen.insert(path.clone()) {
                    ordered.push(path);
                }
            }
        }
        Ok(ordered)
    }

    /// Where a path that [`Self::modules`] gave is on this machine.
    pub fn module_file(&self, module: &Path) -> PathBuf {
        self.tree.join("lib/modules").join(&self.release).join(module)
    }
}

fn release(package: &str) -> &str {
    package.trim_start_matches("linux-image-")
}

fn bzimage(tree: &Path, release: &str) -> PathBuf {
    tree.join(format!("boot/vmlinuz-{release}"))
}

/// Extracts the ELF of a bzImage (Linux boot protocol 2.08: payload_offset and payload_length).
fn extract(bzimage: &Path, vmlinux: &Path) -> Result<()> {
    let image = fs::read(bzimage).with_context(|| format!("read {}", bzimage.display()))?;
    let word = |at: usize| -> Result<usize> {
        let bytes = image
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .context("the bzImage is too short")?;
        Ok(u32::from_le_bytes(bytes) as usize)
    };
    ensure!(image.get(0x202..0x206) == Some(b"HdrS".as_slice()), "{} has no setup header", bzimage.display());
    let setup_sectors =
        image.get(0x1f1).map_or(4, |&sectors| if sectors == 0 { 4 } else { usize::from(sectors) });
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    // The payload ends with the length of what it unpacks to, outside the compressed stream.
    let end = start + word(0x24c)? - 4;
    let stream = image.get(start..end).context("the bzImage's payload is cut off")?;
    let tool = match stream {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => bail!("{} is compressed in a way that is not known here", bzimage.display()),
    };
    let packed = vmlinux.with_extension("packed");
    File::create(&packed)?.write_all(stream)?;
    decompress(tool, &packed, vmlinux)?;
    fs::remove_file(&packed)?;
    let mut elf = File::open(vmlinux)?;
    let mut magic = [0; 4];
    elf.read_exact(&mut magic)?;
    ensure!(
        magic == *b"\x7fELF" && elf.seek(std::io::SeekFrom::End(0))? == word(end)? as u64,
        "not the ELF expected"
    );
    Ok(())
}

fn decompress(tool: &str, from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new(tool);
    command.arg("-dc").stdin(File::open(from)?).stdout(File::create(to)?);
    let status = command.status().with_context(|| format!("run {tool}"))?;
    ensure!(status.success(), "{tool} could not unpack the kernel");
    Ok(())
}

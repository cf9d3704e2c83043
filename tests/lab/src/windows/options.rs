//! The command line of `cargo lab windows`, and what is missing of what it names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::host::Place;

/// Test real Windows: boots an image of yours through firmware of yours, and tells what worked
#[derive(Debug, Args)]
pub struct Options {
    /// A disk with Windows on it, in VHDX; it is not written to
    #[arg(long, value_name = "FILE.vhdx")]
    image: PathBuf,
    /// The UEFI firmware: MSVM.fd (x64, release) from the releases of microsoft/mu_msvm
    #[arg(long, value_name = "MSVM.fd")]
    firmware: PathBuf,
    /// Where the report is written, in JSON
    #[arg(long, value_name = "FILE.json", default_value = "windows-report.json")]
    pub out: PathBuf,
    /// Virtual processors [default: 4; in the nested lab 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub cpus: Option<u32>,
    /// Memory [default: 4G; in the nested lab 3G, of the 4.5 GiB that there are]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Minutes until Windows must have told what it sees; the first start of a new image takes long
    #[arg(long, value_name = "MINUTES", default_value_t = 45, value_parser = clap::value_parser!(u64).range(1..10_000))]
    pub timeout: u64,
    /// Keep the overlay, the firmware's variables and the disks that were made for the run, until the next one
    #[arg(long)]
    pub keep: bool,
    /// Give Windows a TPM 2.0, a new one
    #[arg(long)]
    pub tpm: bool,
    /// More words for `busman run`, for instance: -- --vnc 127.0.0.1:5900
    #[arg(last = true)]
    pub more: Vec<String>,
}

/// The files that were named, as absolute paths.
pub struct Input {
    pub image: PathBuf,
    pub firmware: PathBuf,
}

/// What a machine for Windows is like, beside its disks.
pub struct Shape<'a> {
    pub cpus: u32,
    pub memory: &'a str,
    pub tpm: bool,
    pub more: &'a [String],
}

impl Options {
    /// What the machine is to be like, in this place.
    pub fn shape(&self, place: Place) -> Shape<'_> {
        let (cpus, memory) = if place == Place::Direct { (4, "4G") } else { (1, "3G") };
        Shape {
            cpus: self.cpus.unwrap_or(cpus),
            memory: self.memory.as_deref().unwrap_or(memory),
            tpm: self.tpm,
            more: &self.more,
        }
    }

    /// Looks whether everything is there, and whether the report can be written.
    pub fn check(&self) -> Result<Input> {
        let folder = self.out.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        ensure!(folder.is_dir(), "--out {}: there is no folder {}", self.out.display(), folder.display());
        ensure!(!self.out.is_dir(), "--out {} is a folder; name a file for the report", self.out.display());
        let image =
            file("--image", &self.image, "a VHDX of Windows, for instance one of Microsoft's evaluations")?;
        let firmware =
            file("--firmware", &self.firmware, "MSVM.fd from https://github.com/microsoft/mu_msvm/releases")?;
        check_vhdx(&image)?;
        let is_input = self.out.canonicalize().is_ok_and(|out| [&image, &firmware].contains(&&out));
        ensure!(!is_input, "--out {} is an input; name another file", self.out.display());
        // What is in it stays until there is another report.
        let out = File::options().create(true).append(true).open(&self.out);
        out.with_context(|| format!("--out {} cannot be written", self.out.display()))?;
        Ok(Input { image, firmware })
    }
}

fn file(option: &str, path: &Path, what: &str) -> Result<PathBuf> {
    let whole = path
        .canonicalize()
        .with_context(|| format!("{option} {} is not there; it must be {what}", path.display()))?;
    ensure!(whole.is_file(), "{option} {} is no file; it must be {what}", path.display());
    Ok(whole)
}

/// The first eight bytes of a VHDX, of a QCOW2 and of a dynamic VHD.
fn check_vhdx(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| format!("--image {} cannot be read", path.display()))?;
    file.take(8).read_to_end(&mut start).with_context(|| format!("read {}", path.display()))?;
    if start == b"vhdxfile" {
        return Ok(());
    }
    let name = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if start == b"conectix" || start.starts_with(b"QFI") || ["vhd", "qcow2", "raw", "img"].contains(&&*name) {
        bail!(
            "--image {} is no VHDX; make one of it: cargo lab run -- image convert {} {}",
            path.display(),
            path.display(),
            path.with_extension("vhdx").display()
        );
    }
    bail!("--image {} is no VHDX: it does not begin with \"vhdxfile\"", path.display())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn check(name: &str, content: &[u8]) -> String {
        let folder = std::env::temp_dir().join(format!("busman-lab-options-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (image, firmware) = (folder.join(name), folder.join("MSVM.fd"));
        std::fs::write(&image, content).unwrap();
        std::fs::write(&firmware, b"firmware").unwrap();
        let why = check_out(&image, &firmware, &folder.join("report.json"));
        std::fs::remove_file(image).unwrap();
        why
    }

    fn check_out(image: &Path, firmware: &Path, out: &Path) -> String {
        let text = |path: &Path| path.display().to_string();
        let words = ["x", "--image", &text(image), "--firmware", &text(firmware), "--out", &text(out)];
        let outcome = Cli::parse_from(words).options.check();
        outcome.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn an_image_must_be_a_vhdx() {
        assert_eq!(check("good.vhdx", b"vhdxfile and more"), "");
        assert!(check("short.vhdx", b"vhd").ends_with("it does not begin with \"vhdxfile\""));
        assert!(check("windows.vhd", b"conectix").contains("make one of it: cargo lab run -- image convert"));
        assert!(check("windows.img", &[0; 512]).contains("image convert"));
    }

    #[test]
    fn a_report_that_cannot_be_written_is_told_before_the_run() {
        let folder = std::env::temp_dir().join(format!("busman-lab-out-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [image, out] = ["image.vhdx", "report.json"].map(|name| folder.join(name));
        std::fs::write(&image, b"vhdxfile").unwrap();
        std::fs::write(&out, b"an earlier report").unwrap();
        assert!(check_out(&image, &image, &folder).ends_with("is a folder; name a file for the report"));
        let too_long = folder.join("r".repeat(300));
        assert!(check_out(&image, &image, &too_long).contains("cannot be written"));
        assert!(check_out(&image, &image, &image).ends_with("image.vhdx is an input; name another file"));
        assert_eq!(check_out(&image, &image, &out), "");
        assert_eq!(std::fs::read(&out).unwrap(), b"an earlier report");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_not_there_is_named_with_where_it_comes_from() {
        let words = ["x", "--image", "/nowhere/win.vhdx", "--firmware", "/nowhere/MSVM.fd"];
        let error = Cli::parse_from(words).options.check().err().unwrap();
        assert!(
            format!("{error:#}").starts_with("--image /nowhere/win.vhdx is not there; it must be a VHDX")
        );
        let words = ["x", "--image", "/etc/passwd", "--firmware", "/nowhere/MSVM.fd"];
        let error = Cli::parse_from(words).options.check().err().unwrap();
        assert!(error.to_string().contains("it must be MSVM.fd from https://github.com/microsoft/mu_msvm"));
        let words = ["x", "--image", "/etc/passwd", "--firmware", "/etc/passwd", "--out", "/nowhere/r.json"];
        let error = Cli::parse_from(words).options.check().err().unwrap();
        assert_eq!(error.to_string(), "--out /nowhere/r.json: there is no folder /nowhere");
    }
}

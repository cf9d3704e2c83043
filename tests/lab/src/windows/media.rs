//! What a run needs besides Windows itself: an overlay over the image, a disc with our script, and a small disk on which
//! the script leaves its results.
//!
//! The disc's root has the answer file too, where a generalised Windows looks for one at its first start
//! (`Unattend.xml` on read-only removable media). The results' disk is a raw image with one FAT partition, read with
//! mtools when the guest is gone. Other ways of starting the script, such as a registry hive that the loader merges,
//! would begin here.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::{host, packages, progress};

/// Programs that this needs here, and their packages.
const TOOLS: [(&str, &str); 3] = [("mformat", "mtools"), ("mtype", "mtools"), ("xorriso", "xorriso")];

/// The serial number by which the guest finds the results' disk.
pub const SERIAL: &str = "BUSMAN-RESULTS";
/// The results' file.
const RESULTS: &str = "RESULTS.JSON";
/// The overlay's.
const OVERLAY: &str = "overlay.vhdx";

const SECTOR: u64 = 512;
/// The results' disk: 64 MiB, and its partition from 1 MiB on.
const DISK: u64 = 64 << 20;
const PARTITION: u64 = 1 << 20;
/// MBR partition type: FAT16 with LBA.
const FAT16_LBA: u8 = 0x0e;

/// The files of a run.
#[derive(Debug)]
pub struct Media {
    /// Where they all are; busman's report and trace come here too.
    pub folder: PathBuf,
    /// What is written instead of the image.
    pub overlay: Option<PathBuf>,
    /// The disc with the script.
    pub disc: PathBuf,
    /// The disk for its results.
    pub results: PathBuf,
    /// The firmware's variables.
    pub nvram: PathBuf,
    /// The folder for a TPM's state.
    pub tpm: PathBuf,
}

impl Media {
    /// Makes them anew, in a folder of this name among the lab's logs.
    pub fn make(lab: &mut Lab, name: &str, image: Option<&Path>) -> Result<Self> {
        packages::install_tools(&TOOLS)?;
        let folder = lab.logs().join(name);
        if folder.exists() {
            if let Some(words) = goes(&folder) {
                progress::say(&words);
            }
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let overlay = image.map(|image| overlay(lab, image, &folder)).transpose()?;
        let media = Media {
            overlay,
            disc: folder.join("check.iso"),
            results: folder.join("results.img"),
            nvram: folder.join("windows.nvram"),
            tpm: folder.join("tpm"),
            folder,
        };
        media.make_disc()?;
        media.make_results()?;
        Ok(media)
    }

    fn make_disc(&self) -> Result<()> {
        let source = host::workspace().join("resources/windows");
        let text = |path: PathBuf| path.display().to_string();
        let script = text(source.join("busman-check.ps1"));
        let answers = text(source.join("unattend.xml"));
        let graft = [
            format!("/busman-check.ps1={script}"),
            format!("/Unattend.xml={answers}"),
            format!("/Autounattend.xml={answers}"),
        ];
        let disc = text(self.disc.clone());
        let mut arguments = vec!["-as", "mkisofs", "-quiet", "-J", "-R", "-V", "BUSMAN"];
        arguments.extend(["-o", &disc, "-graft-points"]);
        arguments.extend(graft.iter().map(String::as_str));
        packages::run("xorriso", &arguments, None).context("make the disc with the script")?;
        Ok(())
    }

    /// One partition, because Windows takes a disk without any for one that is not initialised.
    fn make_results(&self) -> Result<()> {
        let mut disk = File::create(&self.results).context("create the results' disk")?;
        disk.set_len(DISK)?;
        disk.write_all(&master_boot_record())?;
        drop(disk);
        let [before, sectors] = [PARTITION, DISK - PARTITION].map(|bytes| (bytes / SECTOR).to_string());
        let partition = self.partition();
        let mut arguments = vec!["-i", &partition, "-v", "BUSMAN", "-H", &before, "-T", &sectors];
        arguments.extend(["-h", "16", "-s", "63", "-m", "248", "::"]);
        packages::run("mformat", &arguments, None).context("format the results' disk")?;
        Ok(())
    }

    /// Where busman's report comes.
    pub fn report(&self) -> PathBuf {
        self.folder.join("busman.json")
    }

    /// The results' partition, in mtools' words.
    fn partition(&self) -> String {
        format!("{}@@{PARTITION}", self.results.display())
    }

    /// What the guest wrote; the sentence says why there is nothing.
    pub fn read_results(&self) -> Result<String, String> {
        let file = format!("::{RESULTS}");
        packages::run("mtype", &["-i", &self.partition(), &file], None).map_err(|error| {
            let why = format!("{error:#}");
            if why.contains("not found") {
                format!("there is no {RESULTS} on its disk")
            } else {
                format!("the results' disk cannot be read: {why}")
            }
        })
    }

    /// Removes what is large or of no use any more; logs, trace and busman's report stay.
    pub fn remove(&self) {
        let made = [&self.disc, &self.results, &self.nvram].into_iter().chain(&self.overlay);
        for file in made {
            let _ = fs::remove_file(file);
        }
        let _ = fs::remove_dir_all(&self.tpm);
    }
}

/// What is told of an earlier run's overlay, which the next run removes.
fn goes(folder: &Path) -> Option<String> {
    let overlay = folder.join(OVERLAY);
    let goes = || format!("The overlay of an earlier run goes, with all beside it: {}", overlay.display());
    overlay.exists().then(goes)
}

fn overlay(lab: &mut Lab, image: &Path, folder: &Path) -> Result<PathBuf> {
    let overlay = folder.join(OVERLAY);
    let text = |path: &Path| path.display().to_string();
    lab.run_busman(&["image", "create", &text(&overlay), "--parent", &text(image)])
        .with_context(|| format!("make an overlay over {}", image.display()))?;
    Ok(overlay)
}

/// A partition table with one FAT partition, without code.
fn master_boot_record() -> [u8; 512] {
    let mut record = [0; 512];
    let number = |bytes: u64| u32::try_from(bytes / SECTOR).unwrap_or(u32::MAX).to_le_bytes();
    // Windows tells disks apart by this signature.
    record[440..444].copy_from_slice(b"BUSM");
    // Cylinder, head and sector are out of range: they say so by their largest value.
    record[446..454].copy_from_slice(&[0, 0xfe, 0xff, 0xff, FAT16_LBA, 0xfe, 0xff, 0xff]);
    record[454..458].copy_from_slice(&number(PARTITION));
    record[458..462].copy_from_slice(&number(DISK - PARTITION));
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_that_was_kept_does_not_go_without_a_word() {
        let folder = std::env::temp_dir().join(format!("busman-lab-kept-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(goes(&folder), None);
        fs::write(folder.join("overlay.vhdx"), b"kept").unwrap();
        assert!(goes(&folder).unwrap().ends_with("/overlay.vhdx"));
        fs::remove_dir_all(folder).unwrap();
    }
}

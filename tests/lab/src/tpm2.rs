//! tpm2-tools in a guest: the TPM's users that nobody here wrote.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::cpio::Archive;
use crate::lab::Lab;
use crate::vmm::Guest;
use crate::{host, programs};

/// What the tools load to talk to Linux's device.
const DEVICE: &str = "libtss2-tcti-device.so.0";

/// A guest that uses its TPM and then does what the host types (resources/guest/tests/tpm.sh).
pub fn guest(lab: &Lab) -> Result<Guest> {
    Ok(Guest::new("tpm").initrd(&image(lab)?).append("lab.modules=none"))
}

/// The program is this machine's: it needs more libraries than packages can be named.
fn image(lab: &Lab) -> Result<PathBuf> {
    let mut archive = Archive::default();
    let program = host::find_program("tpm2").context("tpm2 is not installed")?;
    programs::add(&mut archive, &program, "/bin/tpm2", &[])?;
    let library = Path::new("/").join(programs::LIBRARIES).join(DEVICE);
    programs::add(&mut archive, &library, &format!("/{}/{DEVICE}", programs::LIBRARIES), &[])?;
    let both = [std::fs::read(&lab.images.base)?, archive.finish()].concat();
    Cache::open()?.content("images/guest-tpm2", &both)
}

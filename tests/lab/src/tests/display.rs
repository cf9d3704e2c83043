//! Family `platform`, the display: Linux's drivers for video, keyboard and mouse.
//!
//! The guest is Debian's stock kernel with hyperv_drm: the cloud kernel's hyperv_fb runs under UEFI alone.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::check_warnings;
use crate::cache::Cache;
use crate::kernel::{self, Kernel};
use crate::lab::Lab;
use crate::packages::Packages;
use crate::vm::Vm;
use crate::vmm::{Guest, Vmm};
use crate::{guest, programs};

/// What the guest loads.
const MODULES: [&str; 5] = ["hv_vmbus", "hyperv_drm", "hyperv-keyboard", "hid-hyperv", "evdev"];
/// The same for QEMU's VGA card.
const QEMU_MODULES: [&str; 1] = ["bochs"];

/// The kernel and the file tree of the family's guests.
struct Images {
    kernel: PathBuf,
    initrd: PathBuf,
}

fn images() -> Result<Images> {
    let cache = Cache::open()?;
    let wanted = [kernel::STOCK, "busybox-static", "libdrm-tests"];
    let needs = [&guest::NEEDS[..], &["libdrm"]].concat();
    let packages = Packages::fetch(&cache, &wanted, &needs, Kernel::finish)?;
    let kernel = Kernel::of(kernel::STOCK, &packages)?;
    let mut tree = guest::tree(&packages, &kernel, &[&MODULES[..], &QEMU_MODULES].concat())?;
    let modetest = packages.tree("libdrm-tests")?.join("usr/bin/modetest");
    let folders: Vec<PathBuf> = packages.trees("libdrm").map(|tree| tree.join(programs::LIBRARIES)).collect();
    programs::add(&mut tree, &modetest, "/bin/modetest", &folders)?;
    Ok(Images { initrd: cache.content("images/guest-display", &tree.finish())?, kernel: kernel.vmlinux })
}

/// A guest with a display of this resolution, whose console does what it is told.
pub fn guest(size: &str) -> Result<Guest> {
    guest_of(Vmm::Busman, size)
}

/// The same with QEMU's VGA card, if it is QEMU that runs it.
pub fn guest_of(vmm: Vmm, size: &str) -> Result<Guest> {
    let Images { kernel, initrd } = images()?;
    let guest = Guest::new("display").kernel(&kernel).initrd(&initrd).display(size);
    let modules = if vmm == Vmm::Busman { MODULES.join(",") } else { QEMU_MODULES.join(",") };
    Ok(guest.append(&format!("lab.modules={modules}")))
}

/// Has the guest do something, and waits until it is done.
pub fn tell(vm: &mut Vm<'_>, words: &str) -> Result<()> {
    vm.tell(words)?;
    vm.expect("lab: ready")?;
    Ok(())
}

/// Resolution and checksum of what the guest shows, as busman sees it.
pub fn look(vm: &mut Vm<'_>) -> Result<(String, String)> {
    vm.control("display")?;
    let width = vm.expect_log("width ")?;
    let height = vm.expect_log("height ")?;
    let picture = vm.expect_log("picture ")?;
    Ok((format!("{width}x{height}"), picture))
}

/// Looks until the picture is this one, or another one than it was.
fn look_for(vm: &mut Vm<'_>, wanted: impl Fn(&str) -> bool, what: &str) -> Result<String> {
    const LOOKS: u32 = 100;
    for _ in 0..LOOKS {
        let (_, picture) = look(vm)?;
        if wanted(&picture) {
            return Ok(picture);
        }
        vm.run_for(std::time::Duration::from_millis(200))?;
    }
    anyhow::bail!("busman does not see {what}")
}

/// The checksum of a picture that is filled with a word and line ends.
fn painted(word: &str, (width, height): (usize, usize)) -> String {
    let bytes = word.bytes().chain([b'\n']).cycle().take(width * height * 4);
    let bytes: Vec<u8> = bytes.enumerate().filter_map(|(i, byte)| (i % 4 != 3).then_some(byte)).collect();
    format!("{:08x}", crc32c::crc32c(&bytes))
}

/// Ends a guest, whose kernel must have been content.
pub fn end(mut vm: Vm<'_>) -> Result<()> {
    tell(&mut vm, "warnings")?;
    vm.tell("poweroff")?;
    check_warnings(&vm.finish_well()?)
}

/// One guest; `viewers` has more resolutions, in one guest too.
pub fn resolution(lab: &mut Lab) -> Result<()> {
    let (width, height) = (1920, 1080);
    let mut vm = lab.start(&guest(&format!("{width}x{height}"))?)?;
    let resolution = vm.expect("lab: value resolution=")?;
    ensure!(resolution == format!("{width},{height}"), "the guest's resolution is {resolution}");
    vm.expect("lab: ready")?;
    for word in ["busman", "display"] {
        tell(&mut vm, &format!("paint {word}"))?;
        let wanted = painted(word, (width, height));
        look_for(&mut vm, |picture| picture == wanted, "what the guest painted")?;
    }
    let (seen, _) = look(&mut vm)?;
    ensure!(seen == format!("{width}x{height}"), "busman sees {seen}");
    end(vm)
}

pub fn console(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&guest("1024x768")?)?;
    vm.expect("lab: ready")?;
    let (_, empty) = look(&mut vm)?;
    tell(&mut vm, "say a line of text")?;
    let text = look_for(&mut vm, |picture| picture != empty, "text on the console")?;
    for key in ["x", "shift-y"] {
        vm.control(&format!("key {key}"))?;
    }
    let typed = look_for(&mut vm, |picture| picture != text, "what was typed")?;
    ensure!(typed != empty, "the console is empty again");
    end(vm)
}

/// An event as the guest tells it: device, type, code, value (`linux/input-event-codes.h`).
pub fn input(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&guest("1024x768")?)?;
    vm.expect("lab: ready")?;
    tell(&mut vm, "listen")?;
    for (command, events) in [
        // EV_KEY: A; then Ctrl, Alt and Delete, which go down in this order and up in the other.
        ("key a", &["1 30 1", "1 30 0"][..]),
        ("key ctrl-altgr-up", &["1 29 1", "1 100 1", "1 103 1", "1 103 0", "1 100 0", "1 29 0"]),
        ("key pause", &["1 119 1", "1 119 0"]),
        // EV_ABS: X and Y, from 0 to 32767 whatever the resolution.
        ("pointer 100 32767", &["3 0 100", "3 1 32767"]),
        // EV_KEY: the left and the right button.
        ("pointer 100 32767 left", &["1 272 1"]),
        ("pointer 100 32767 right", &["1 272 0", "1 273 1"]),
        ("pointer 0 0", &["1 273 0", "3 0 0", "3 1 0"]),
    ] {
        vm.control(command)?;
        for event in events {
            vm.expect(&format!(" {event}")).with_context(|| format!("{command}: {event} is not seen"))?;
        }
    }
    end(vm)
}

/// Its channel is closed and opened again, and video memory placed anew.
pub fn reload(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&guest("1280x720")?)?;
    vm.expect("lab: ready")?;
    for word in ["one", "another"] {
        tell(&mut vm, &format!("paint {word}"))?;
        let wanted = painted(word, (1280, 720));
        look_for(&mut vm, |picture| picture == wanted, "what the guest painted")?;
        tell(&mut vm, "away")?;
        tell(&mut vm, "back")?;
    }
    end(vm)
}

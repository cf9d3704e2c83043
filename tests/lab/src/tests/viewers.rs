//! Family `platform`, people at viewers: what they type is in a screenshot, and what a guest draws is at their side.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::api::Machine;
use super::display;
use crate::lab::Lab;
use crate::packages;
use crate::viewer::{self, Count, Viewer};
use crate::vm::Vm;

/// Where viewers come in, where the machine runs.
pub fn socket() -> PathBuf {
    PathBuf::from(format!("/tmp/busman-lab-{}.vnc", std::process::id()))
}

/// Every character that an American keyboard has.
const TEXT: &str = r##"The quick brown fox JUMPS over 13 lazy dogs; `~!@#$%^&*()-_=+[{]}\|:'",<.>/? 24567890 abcdgijlmnpstvwyz ACDEGHIKLNOQRVXYZBFWT"##;
/// Pixels of a character: Linux's font for consoles.
const CELL: (usize, usize) = (8, 16);
/// The row in which the guest itself says the same.
const SAID: usize = 10;

/// TigerVNC's viewer and what it needs, and their packages.
const TIGERVNC: [(&str, &str); 4] = [
    ("xtigervncviewer", "tigervnc-viewer"),
    ("Xvfb", "xvfb"),
    ("xdotool", "xdotool"),
    ("setxkbmap", "x11-xkb-utils"),
];

/// The console shows what is typed at it, pixel by pixel as the guest itself draws the same text.
pub fn types(lab: &mut Lab) -> Result<()> {
    packages::install_tools(&TIGERVNC)?;
    let file = lab.logs().join("platform-typed.png");
    let _ = std::fs::remove_file(&file);
    let (vnc, folder) = (socket(), socket().with_extension("tigervnc"));
    let mut machine = Machine::start_display(lab, display::guest("1024x768")?.vnc(&vnc))?;
    let words = [vnc.display().to_string(), folder.display().to_string()];
    let script = ["-c", include_str!("../../tigervnc.sh"), "sh", &words[0], &words[1], TEXT];
    let person = machine.vm.start_beside(Path::new("/bin/sh"), &script)?;
    viewer::wait_for(&mut machine.vm, &folder.join("typed"))?;
    await_text(&mut machine.vm)?;
    machine.tell("listen")?;
    viewer::touch(&mut machine.vm, &folder.join("listening"))?;
    // EV_REL: REL_WHEEL, a notch each way; the guest tells the lower half of -1.
    for turn in ["2 8 1", "2 8 65535"] {
        machine.vm.expect(&format!(" {turn}")).with_context(|| format!("{turn} is not seen"))?;
    }
    machine.tell(&format!("print {SAID} {TEXT}"))?;
    viewer::touch(&mut machine.vm, &folder.join("stop"))?;
    let said = machine.vm.end_beside(person)?;
    ensure!(said.code == 0, "the viewer fails: {}", said.errors.trim_end());
    machine.screenshot(&file)?;
    let picture = Picture::read(&file)?;
    ensure!((picture.width, picture.height) == (1024, 768), "the screenshot's size is wrong");
    ensure!(picture.row(0) == picture.row(SAID), "what was typed looks unlike what the guest says");
    ensure!(picture.row(0).iter().any(|byte| *byte != 0), "the screenshot is black");
    ensure!(picture.row(1).iter().all(|byte| *byte == 0), "there is more than what was typed");
    display::end(machine.vm)
}

/// Waits until all of the text is on the console: the last keys may be on their way.
fn await_text(vm: &mut Vm<'_>) -> Result<()> {
    let mut text = String::new();
    for _ in 0..100 {
        vm.tell("row 0")?;
        text = vm.expect("lab: value row=")?;
        if text == TEXT {
            return Ok(());
        }
        vm.run_for(Duration::from_millis(100))?;
    }
    bail!("the guest has {text:?} of {TEXT:?}")
}

/// A screenshot.
struct Picture {
    width: usize,
    height: usize,
    /// Red, green, blue.
    bytes: Vec<u8>,
}

impl Picture {
    fn read(file: &Path) -> Result<Self> {
        let file = File::open(file).with_context(|| format!("open {}", file.display()))?;
        let mut reader = png::Decoder::new(BufReader::new(file)).read_info()?;
        let mut bytes = vec![0; reader.output_buffer_size().context("a picture that is too large")?];
        let info = reader.next_frame(&mut bytes)?;
        Ok(Picture { width: info.width.try_into()?, height: info.height.try_into()?, bytes })
    }

    /// A row of characters.
    fn row(&self, number: usize) -> &[u8] {
        let bytes = self.width * 3 * CELL.1;
        self.bytes.chunks(bytes).nth(number).unwrap_or_default()
    }
}

/// A viewer while a guest changes its mode and draws: with its driver, which tells what it drew, and when that is gone.
pub fn watches(lab: &mut Lab) -> Result<()> {
    let file = lab.logs().join("platform-mode.png");
    let vnc = socket();
    let mut machine = Machine::start_display(lab, display::guest("1280x1024")?.vnc(&vnc))?;
    let viewer = Viewer::start(&mut machine.vm, &vnc)?;
    for mode in ["800x600", "1024x768"] {
        machine.tell(&format!("mode {mode}"))?;
        await_mode(&mut machine.vm, mode)?;
        machine.screenshot(&file)?;
        let Picture { width, height, .. } = Picture::read(&file)?;
        ensure!(format!("{width}x{height}") == mode, "a screenshot of {width}x{height} in {mode}");
    }
    machine.tell("mode none")?;
    await_mode(&mut machine.vm, "1280x1024")?;
    let seen = viewer.end_after(&mut machine.vm, 0, 4)?;
    let mut sizes = seen.sizes.iter();
    for size in [(1280, 1024), (800, 600), (1024, 768), (1280, 1024)] {
        ensure!(sizes.any(|seen| *seen == size), "the viewer saw {:?}", seen.sizes);
    }
    draws(&mut machine, &vnc)?;
    // Linux looks at it when its driver starts, and until then is not disturbed. It knows no others than VESA's at 60 Hz.
    machine.ctl("resolution 1280x720")?;
    let refusal = machine.refusal("resolution 3840x2160")?;
    ensure!(refusal.contains("needs 32 MiB of video memory and there are 8"), "the refusal is {refusal}");
    machine.tell("away")?;
    pokes(&mut machine, &vnc, &file)?;
    machine.tell("back")?;
    await_mode(&mut machine.vm, "1280x720")?;
    display::end(machine.vm)
}

fn await_mode(vm: &mut Vm<'_>, mode: &str) -> Result<()> {
    for _ in 0..100 {
        if display::look(vm)?.0 == mode {
            return Ok(());
        }
        vm.run_for(Duration::from_millis(100))?;
    }
    bail!("the guest's mode is not {mode}")
}

/// A character on the console: the guest's driver says where it is, and no more than that is sent.
fn draws(machine: &mut Machine<'_>, vnc: &Path) -> Result<()> {
    let viewer = Viewer::start(&mut machine.vm, vnc)?;
    machine.tell("print 3 -")?;
    let Count { pixels, bytes, .. } = viewer.end_after(&mut machine.vm, 1, 0)?.later;
    let cell = (CELL.0 * CELL.1) as u64;
    ensure!(
        (1..=4 * cell).contains(&pixels) && bytes < 1000,
        "{pixels} pixels in {bytes} bytes for a character"
    );
    let viewer = Viewer::start(&mut machine.vm, vnc)?;
    machine.vm.run_for(Duration::from_secs(3))?;
    let Count { bytes, .. } = viewer.end(&mut machine.vm)?.later;
    ensure!(bytes == 0, "{bytes} bytes for a picture that stands still");
    Ok(())
}

/// A word in video memory: the hypervisor knows which page was written, and no more than its rows is sent.
fn pokes(machine: &mut Machine<'_>, vnc: &Path, file: &Path) -> Result<()> {
    for row in [100, 900] {
        let viewer = Viewer::start(&mut machine.vm, vnc)?;
        machine.tell(&format!("poke {} 0x00c0ffee", row * 1280 * 4))?;
        let Count { pixels, .. } = viewer.end_after(&mut machine.vm, 1, 0)?.later;
        ensure!((1..=3 * 1280).contains(&pixels), "{pixels} pixels for a page");
    }
    machine.screenshot(file)?;
    let picture = Picture::read(file)?;
    for row in [100, 900] {
        let pixel = picture.bytes.get(row * 1280 * 3..).and_then(|bytes| bytes.get(..3));
        ensure!(pixel == Some(&[0xc0, 0xff, 0xee]), "the screenshot has {pixel:x?} in row {row}");
    }
    Ok(())
}

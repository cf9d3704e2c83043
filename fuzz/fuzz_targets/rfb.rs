//! The VNC server against any viewer, from its first byte on.
//!
//! The input plays the viewer (and cuts its bytes into pieces), and a guest whose picture changes its size and its
//! pointer meanwhile. Whatever comes: no panic, the output that waits is bounded, and what the viewer holds is let
//! go when it goes.
//!
//! Run it with `cargo fuzz run rfb` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

mod input;

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

use busman::display::Display;
use busman::vnc::conversation::Conversation;
use busman::vnc::security::{Password, Security};
use devices::display::{
    Changes, Cursor, Keys, Mode, PIXEL, Pointer, Rect, ResolutionError, Scancode, Screen, Viewers, Watch,
};
use input::Input;
use libfuzzer_sys::fuzz_target;

/// Output that waits at most: what is enough, one band in the longest encoding, and its heads.
const OUT_MAX: usize = (256 << 10) + (512 << 10) + (64 << 10);

/// A screen that shows what the input says.
#[derive(Debug, Default)]
struct Guest {
    mode: Mutex<Option<Mode>>,
    cursor: Mutex<Option<Arc<Cursor>>>,
    colours: Mutex<u8>,
    viewers: Viewers,
}

impl Screen for Guest {
    fn mode(&self) -> Option<Mode> {
        *self.mode.lock().unwrap()
    }

    fn read(&self, rect: Rect, pixels: &mut Vec<u8>) -> Option<Rect> {
        pixels.clear();
        let rect = rect.common(self.mode()?.area());
        let colours = u32::from(*self.colours.lock().unwrap()).max(1);
        let count = u32::from(rect.width) * u32::from(rect.height);
        pixels
            .extend((0..count).flat_map(|pixel| (pixel.wrapping_mul(2_654_435_761) % colours).to_le_bytes()));
        Some(rect)
    }

    fn cursor(&self) -> Option<Arc<Cursor>> {
        self.cursor.lock().unwrap().clone()
    }

    fn watch(&self) -> io::Result<Watch> {
        self.viewers.watch()
    }

    /// A guest that follows at once, within reason.
    fn prefer(&self, mode: Mode) -> Result<(), ResolutionError> {
        if mode.area().is_empty() || mode.width > 4096 || mode.height > 4096 {
            return Err(ResolutionError::Range { mode, least: mode, most: mode });
        }
        *self.mode.lock().unwrap() = Some(mode);
        self.viewers.mode();
        Ok(())
    }
}

/// What is held.
#[derive(Debug, Default)]
struct Hands {
    keys: Mutex<HashSet<Scancode>>,
    buttons: Mutex<u8>,
}

impl Keys for Hands {
    fn key(&self, scancode: Scancode, pressed: bool) {
        assert!((1..0x80).contains(&scancode.code));
        let mut keys = self.keys.lock().unwrap();
        if pressed {
            keys.insert(scancode);
        } else {
            keys.remove(&scancode);
        }
    }
}

impl Pointer for Hands {
    fn pointer(&self, x: u16, y: u16, buttons: u8, wheel: i8) {
        assert!(x <= 32767 && y <= 32767 && (-1..=1).contains(&wheel));
        *self.buttons.lock().unwrap() = buttons;
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (guest, hands) = (Arc::new(Guest::default()), Arc::new(Hands::default()));
    let display =
        Display { screen: Some(guest.clone()), keys: Some(hands.clone()), pointer: Some(hands.clone()) };
    let start = input.byte();
    let password = (start & 1 != 0).then(|| Password::new(b"secret").unwrap());
    let mut viewer =
        Conversation::new(Arc::new(Security { password, tls: None }), Arc::default(), display.clone());
    if start & 2 == 0 && start & 1 == 0 {
        // The way in is short; most inputs begin behind it.
        viewer.receive(b"RFB 003.008\n\x01\x01").expect("a viewer is let in");
        assert!(viewer.is_in());
    }
    while !input.0.is_empty() {
        step(&mut viewer, &guest, &display, &mut input);
        let piece = input.byte();
        let Ok(_) = viewer.receive(input.bytes(piece.into())) else { break };
        viewer.produce();
        assert!(viewer.out.len() <= OUT_MAX, "{} bytes wait", viewer.out.len());
    }
    drop(viewer);
    assert!(hands.keys.lock().unwrap().is_empty(), "keys stay down");
    assert_eq!(*hands.buttons.lock().unwrap(), 0, "buttons stay down");
});

/// The guest does something, or the viewer reads.
fn step(viewer: &mut Conversation, guest: &Guest, display: &Display, input: &mut Input<'_>) {
    let mut changes = Changes::default();
    match input.byte() % 8 {
        0 => {
            let [width, height] = [input.byte(), input.byte()].map(|byte| u16::from(byte) * 7);
            *guest.mode.lock().unwrap() = (width != 7).then_some(Mode { width, height });
            changes.mode = true;
        }
        1 => {
            let [width, height, hot] = [input.byte(), input.byte(), input.byte()].map(u16::from);
            let pixels = vec![hot as u8; usize::from(width) * usize::from(height) * PIXEL];
            let cursor = Cursor { width, height, hot_x: hot, hot_y: hot, pixels };
            *guest.cursor.lock().unwrap() = (width > 0).then(|| Arc::new(cursor));
            changes.cursor = true;
        }
        2 => {
            *guest.colours.lock().unwrap() = input.byte();
            let [left, top, width, height] =
                [input.byte(), input.byte(), input.byte(), input.byte()].map(|byte| u16::from(byte) * 9);
            changes.dirty.push(Rect { left, top, width, height });
        }
        3 => viewer.put(display.clone()),
        4 => viewer.out.clear(),
        5 => drop(viewer.out.drain(..viewer.out.len() / 2)),
        _ => {}
    }
    viewer.changed(&changes);
}

//! Video, keyboard and mouse against any messages, while a person types, points and looks.
//!
//! Bytes become steps: a message, any packet at all, a turn of the worker, a packet taken, something that a person
//! does. The rings are sound, so no worker may end. Video memory is never outside of its window; what is read of the
//! screen has the size that it should; a driver sees no release without its press and, when all keys and buttons are
//! let go, none down; and after all this an honest driver can still begin.
//!
//! Run it with `cargo fuzz run display` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

use std::collections::HashSet;

use devices::display::{DIRTY_MAX, Keys, Mode, PIXEL, Pointer, Prefix, Rect, Scancode, Screen, Watch};
use devices::keyboard::{self, Keyboard, KeyboardHandle};
use devices::mem::{GuestRam, PAGE_SIZE};
use devices::mouse::{self, Mouse, MouseHandle};
use devices::testing::{TestVideoMemory, TestWorker};
use devices::video::resolutions::DEFAULT;
use devices::video::{self, Video, VideoScreen};
use devices::vmbus::channel::VmbusDevice;
use devices::vmbus::ring::PacketOut;
use devices::vmbus::ring::protocol::PacketType;
use libfuzzer_sys::fuzz_target;
use vm_memory::GuestAddress;

/// Pages of either ring.
const RING: usize = 3;
/// Less than guests have, so that a run is quick; the resolution preferred does not fit, and must do no harm.
const VRAM: usize = 1 << 20;
const WINDOW: std::ops::Range<u64> = 0xf800_0000..0xf900_0000;

fuzz_target!(|bytes: &[u8]| {
    let Some((device, mut input)) = bytes.split_first() else { return };
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 2 * RING * PAGE_SIZE)]).expect("RAM");
    match device % 3 {
        0 => {
            let (mut device, handle) = Keyboard::device().expect("descriptors");
            run(&mut device, &ram, &mut input, &mut Typist { handle, down: HashSet::new() });
        }
        1 => {
            let (mut device, handle) = Mouse::device().expect("descriptors");
            run(&mut device, &ram, &mut input, &mut Pointing { handle, buttons: 0 });
        }
        _ => {
            let memory = TestVideoMemory::new(VRAM);
            let (mut device, screen) =
                Video::device(Box::new(memory.clone()), &[WINDOW], DEFAULT).expect("descriptors");
            run(&mut device, &ram, &mut input, &mut Viewer { memory, screen, watch: None });
        }
    }
});

/// Who sits in front of the machine, and knows what its driver may see.
trait Person {
    /// Whether messages have the frame of a pipe.
    const PIPE: bool;
    /// Version request and response of an honest driver: type, body; type and body's first bytes.
    const HELLO: (u32, &'static [u8], u32, &'static [u8]);

    fn act(&mut self, bytes: [u8; 4]);
    /// The driver sees a message.
    fn see(&mut self, kind: u32, body: &[u8]);
    /// The driver starts over.
    fn forget(&mut self) {}
    /// Lets everything go.
    fn let_go(&mut self) {}
    /// The driver has seen everything.
    fn check(&self) {}
}

fn byte(input: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = input.split_first()?;
    *input = rest;
    Some(byte)
}

fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (bytes, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    bytes
}

fn run<D: VmbusDevice, P: Person>(device: &mut D, ram: &GuestRam, input: &mut &[u8], person: &mut P) {
    while !input.is_empty() {
        opening(device, ram, input, person);
    }
    // An honest driver, whatever was before.
    person.forget();
    let mut worker = open(device, ram);
    let (ask, body, answer, wanted) = P::HELLO;
    assert!(worker.send(&PacketOut::in_band(1, &[&framed::<P>(ask, body)])));
    worker.ring().expect("an honest driver");
    let answered = worker.receive(|packet| {
        let (kind, body) = message::<P>(packet.payload).expect("a message");
        kind == answer && body.starts_with(wanted)
    });
    assert_eq!(answered, Some(true), "an honest driver cannot begin");
    device.closed(Some(worker.close()));
}

fn open<D: VmbusDevice>(device: &mut D, ram: &GuestRam) -> TestWorker<D::Worker> {
    let pages: Vec<u64> = (0..2 * RING as u64).collect();
    TestWorker::open(device, ram, pages.split_at(RING), [0; 120]).expect("a channel")
}

fn opening<D: VmbusDevice, P: Person>(device: &mut D, ram: &GuestRam, input: &mut &[u8], person: &mut P) {
    let mut worker = open(device, ram);
    person.forget();
    while let Some(step) = byte(input) {
        match step {
            0..=79 => {
                let len = byte(input).unwrap_or(0);
                let body = framed::<P>(u32::from(step % 20), take(input, len.into()));
                let payload: &[&[u8]] = &[&body];
                let packet = PacketOut { completion_requested: step > 60, ..PacketOut::in_band(1, payload) };
                worker.send(&packet);
            }
            80..=89 => {
                let (kind, len) = (byte(input).unwrap_or(6), byte(input).unwrap_or(0));
                let payload: &[&[u8]] = &[take(input, len.into())];
                let kind = PacketType(kind.into());
                worker.send(&PacketOut { kind, ..PacketOut::in_band(2, payload) });
            }
            90..=99 => {
                worker.send(&PacketOut::in_band(1, &[&framed::<P>(P::HELLO.0, P::HELLO.1)]));
            }
            100..=149 => worker.ring().expect("sound rings"),
            150..=199 => drop(receive(&mut worker, person)),
            200..=249 => {
                let mut bytes = [0; 4];
                bytes.iter_mut().zip(take(input, 4)).for_each(|(to, from)| *to = *from);
                person.act(bytes);
                if step < 230 {
                    worker.fire(0).expect("sound rings");
                }
            }
            _ => break,
        }
    }
    person.let_go();
    // Until nothing comes any more: more turns than either queue has places.
    let mut quiet = 0;
    while quiet < 2 {
        worker.ring().expect("sound rings");
        worker.fire(0).expect("sound rings");
        quiet = if receive(&mut worker, person) { 0 } else { quiet + 1 };
    }
    person.check();
    device.closed(Some(worker.close()));
}

fn receive<W: devices::vmbus::channel::ChannelWorker, P: Person>(
    worker: &mut TestWorker<W>,
    person: &mut P,
) -> bool {
    let seen = worker.receive(|packet| match packet.kind {
        PacketType::IN_BAND => {
            let (kind, body) = message::<P>(packet.payload).expect("a message of the host's");
            person.see(kind, body);
        }
        kind => assert_eq!((kind, packet.payload.len()), (PacketType::COMPLETION, 0)),
    });
    seen.is_some()
}

fn framed<P: Person>(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if P::PIPE {
        bytes.extend(1u32.to_le_bytes());
        bytes.extend((body.len() as u32 + 8).to_le_bytes());
    }
    bytes.extend(kind.to_le_bytes());
    if P::PIPE {
        bytes.extend((body.len() as u32).to_le_bytes());
    }
    bytes.extend(body);
    bytes
}

fn message<P: Person>(payload: &[u8]) -> Option<(u32, &[u8])> {
    let word = |at: usize| Some(u32::from_le_bytes(*payload.get(at..)?.first_chunk()?));
    if !P::PIPE {
        return Some((word(0)?, payload.get(4..)?));
    }
    assert_eq!(word(0), Some(1));
    let body = payload.get(16..8 + word(4)? as usize)?;
    assert!(word(12)? as usize <= body.len());
    Some((word(8)?, body))
}

struct Typist {
    handle: KeyboardHandle,
    down: HashSet<(u16, u32)>,
}

impl Person for Typist {
    const PIPE: bool = false;
    const HELLO: (u32, &'static [u8], u32, &'static [u8]) = (1, &[0, 0, 1, 0], 2, &[1, 0, 0, 0]);

    fn act(&mut self, [code, high, prefix, pressed]: [u8; 4]) {
        let prefix = [Prefix::None, Prefix::E0, Prefix::E1][usize::from(prefix % 3)];
        let code = u16::from(code) | u16::from(high & 1) << 8;
        self.handle.key(Scancode { code, prefix }, pressed % 2 == 0);
    }

    fn see(&mut self, kind: u32, body: &[u8]) {
        if kind != keyboard::protocol::message_type::EVENT {
            // A new driver begins; it knows of no key.
            assert_eq!(kind, keyboard::protocol::message_type::PROTOCOL_RESPONSE);
            return self.down.clear();
        }
        let code = u16::from_le_bytes([body[0], body[1]]);
        let info = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
        assert!((1..=0x7f).contains(&code) && info & !0xe == 0);
        let key = (code, info & 0xc);
        if info & 2 == 0 {
            self.down.insert(key);
        } else {
            assert!(self.down.remove(&key), "a release without its press");
        }
    }

    fn forget(&mut self) {
        self.down.clear();
    }

    fn let_go(&mut self) {
        for code in 1..=0x7f {
            for prefix in [Prefix::None, Prefix::E0, Prefix::E1] {
                self.handle.key(Scancode { code, prefix }, false);
            }
        }
    }

    fn check(&self) {
        assert!(self.down.is_empty(), "keys stay down: {:?}", self.down);
    }
}

struct Pointing {
    handle: MouseHandle,
    buttons: u8,
}

impl Person for Pointing {
    const PIPE: bool = true;
    const HELLO: (u32, &'static [u8], u32, &'static [u8]) = (0, &[0, 0, 2, 0], 1, &[0, 0, 2, 0, 1]);

    fn act(&mut self, [x, y, buttons, wheel]: [u8; 4]) {
        self.handle.pointer(u16::from(x) << 8, u16::from(y) << 8, buttons, wheel.cast_signed());
    }

    fn see(&mut self, kind: u32, body: &[u8]) {
        if kind == mouse::protocol::message_type::INPUT_REPORT {
            let &[buttons, _, x, _, y, ..] = body else { panic!("a report of {} bytes", body.len()) };
            assert!(buttons < 0x20 && x < 0x80 && y < 0x80);
            self.buttons = buttons;
        } else {
            // A new driver begins; it knows of no button.
            self.buttons = 0;
        }
    }

    fn forget(&mut self) {
        self.buttons = 0;
    }

    fn let_go(&mut self) {
        self.handle.pointer(0, 0, 0, 0);
    }

    fn check(&self) {
        assert_eq!(self.buttons, 0, "buttons stay down");
    }
}

struct Viewer {
    memory: TestVideoMemory,
    screen: VideoScreen,
    watch: Option<Watch>,
}

impl Person for Viewer {
    const PIPE: bool = true;
    const HELLO: (u32, &'static [u8], u32, &'static [u8]) = (1, &[3, 0, 5, 0], 2, &[3, 0, 5, 0, 2, 1]);

    fn act(&mut self, [what, a, b, c]: [u8; 4]) {
        match what % 6 {
            0 => self.watch = self.screen.watch().ok(),
            1 => self.watch = None,
            2 => drop(self.screen.prefer(Mode { width: u16::from(a) << 4, height: u16::from(b) << 4 })),
            3 => self.memory.refuse(a % 2 == 0),
            4 => {
                let changes = self.watch.as_ref().map(Watch::take).unwrap_or_default();
                assert!(
                    changes.dirty.len() <= DIRTY_MAX && changes.dirty.iter().all(|rect| !rect.is_empty())
                );
            }
            _ => {
                let rect = Rect { left: a.into(), top: b.into(), width: c.into(), height: u16::MAX };
                let mut pixels = vec![0; 3];
                let read = self.screen.read(rect, &mut pixels);
                let read = read.unwrap_or(Rect { width: 0, ..rect });
                assert_eq!(pixels.len(), usize::from(read.width) * usize::from(read.height) * PIXEL);
                assert!(pixels.len() <= 2 * VRAM);
            }
        }
        if let Some(cursor) = self.screen.cursor() {
            let (width, height) = (usize::from(cursor.width), usize::from(cursor.height));
            assert_eq!(cursor.pixels.len(), width * height * PIXEL);
            assert!(cursor.hot_x < cursor.width && cursor.hot_y < cursor.height);
        }
        if let Some(address) = self.memory.address() {
            assert!(WINDOW.start <= address && address + VRAM as u64 <= WINDOW.end);
        }
    }

    fn see(&mut self, kind: u32, _: &[u8]) {
        use video::protocol::message_type as t;
        let answers = [
            t::VERSION_RESPONSE,
            t::VRAM_LOCATION_ACK,
            t::SITUATION_UPDATE_ACK,
            t::FEATURE_CHANGE,
            t::BIOS_INFO_RESPONSE,
            t::RESOLUTION_RESPONSE,
            t::CAPABILITY_RESPONSE,
        ];
        assert!(answers.contains(&kind), "{kind}");
    }
}

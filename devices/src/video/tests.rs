//! Video as a driver and a viewer see it.

use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::protocol::{
    ACCEPTED, Ack, BiosInfo, Capability, Dirt, DirtRect, FeatureChange, INTERFACE, LAST_PART,
    PointerPosition, PointerShape, Resolution, ResolutionRequest, Resolutions, SituationUpdate, Version,
    VersionResponse, VramLocation, message_type,
};
use super::resolutions::{DEFAULT, VRAM_MIN, edid};
use super::{Video, VideoMemory, VideoScreen};
use crate::display::{Changes, Mode, Rect, Screen, Watch};
use crate::testing::{TestChannel, TestGuest, TestVideoMemory};
use crate::vmbus::pipe;
use crate::vmbus::ring::PacketOut;

const WINDOW: std::ops::Range<u64> = 0xf800_0000..0xfec0_0000;
const CONTEXT: u64 = 0x1234_5678_9abc_def0;

struct Driver {
    guest: TestGuest,
    channel: TestChannel,
    memory: TestVideoMemory,
    screen: VideoScreen,
}

impl Driver {
    /// Opens the channel; says nothing yet.
    fn open() -> Self {
        let memory = TestVideoMemory::new(VRAM_MIN);
        let (device, screen) = Video::device(Box::new(memory.clone()), &[WINDOW], DEFAULT).unwrap();
        let mut guest = TestGuest::default();
        guest.bus.add(device).unwrap();
        let offer = guest.connect_to(INTERFACE);
        assert_eq!((offer.offer.flags.get(), offer.offer.mmio_megabytes.get()), (0x10, 8));
        let channel = guest.open(&offer, 11, 11);
        Driver { guest, channel, memory, screen }
    }

    /// As far as a picture of this size.
    fn start(width: u32, height: u32) -> Self {
        let mut driver = Driver::open();
        driver.negotiate();
        assert_eq!(driver.place(WINDOW.start), CONTEXT);
        driver.situate(width, height);
        assert_eq!(driver.wishes(), wishes(0));
        driver
    }

    fn send(&mut self, kind: u32, body: &[&[u8]]) {
        let body = body.concat();
        // Linux's size has the header in it.
        let head = pipe::head(kind, body.len() + 8, body.len());
        self.channel.send(&PacketOut::in_band(1, &[head.as_bytes(), &body]));
    }

    fn next(&mut self) -> (u32, Vec<u8>) {
        self.channel.receive(|packet| {
            let (kind, body) = pipe::message(packet).unwrap();
            (kind, body.to_vec())
        })
    }

    /// The next message, which must be of this kind.
    fn take<T: FromBytes>(&mut self, kind: u32) -> T {
        let (seen, body) = self.next();
        assert_eq!(seen, kind);
        T::read_from_bytes(&body).unwrap()
    }

    fn ask<T: FromBytes>(&mut self, request: u32, body: &(impl IntoBytes + Immutable)) -> T {
        self.send(request, &[body.as_bytes()]);
        self.take(request + 1)
    }

    fn version(&mut self, version: Version) -> VersionResponse {
        self.ask(message_type::VERSION_REQUEST, &version)
    }

    fn negotiate(&mut self) {
        assert_eq!(self.version(Version::V3_5).accepted, ACCEPTED);
    }

    /// The context that is acknowledged.
    fn place(&mut self, address: u64) -> u64 {
        let location = VramLocation { context: CONTEXT.into(), specified: 1, address: address.into() };
        self.ask::<Ack>(message_type::VRAM_LOCATION, &location).context.get()
    }

    fn situate(&mut self, width: u32, height: u32) {
        let update = situation(width, height);
        let ack: Ack = self.ask(message_type::SITUATION_UPDATE, &update);
        assert_eq!(ack.context.get(), CONTEXT);
    }

    fn wishes(&mut self) -> FeatureChange {
        self.take(message_type::FEATURE_CHANGE)
    }

    fn draw(&mut self, rects: &[(i32, i32, i32, i32)]) {
        let dirt = Dirt { output: 0, count: rects.len() as u8 };
        let rects: Vec<DirtRect> = rects
            .iter()
            .map(|&(left, top, right, bottom)| DirtRect {
                left: left.into(),
                top: top.into(),
                right: right.into(),
                bottom: bottom.into(),
            })
            .collect();
        self.send(message_type::DIRT, &[dirt.as_bytes(), rects.as_bytes()]);
    }

    /// Waits until the host has read all that was sent.
    fn settle(&mut self) {
        let _: Capability = self.ask(message_type::CAPABILITY_REQUEST, &[0u8; 0]);
    }

    fn silent(&mut self) -> bool {
        self.channel.try_receive(Instant::now() + Duration::from_millis(20), |_| ()).is_none()
    }
}

fn situation(width: u32, height: u32) -> SituationUpdate {
    let mut update = SituationUpdate::new_zeroed();
    (update.context, update.outputs, update.active, update.depth) = (CONTEXT.into(), 1, 1, 32);
    (update.width, update.height, update.pitch) = (width.into(), height.into(), width.wrapping_mul(4).into());
    update
}

fn wishes(looks: u8) -> FeatureChange {
    FeatureChange { dirt: looks, pointer_position: looks, pointer_shape: looks, situation: 1 }
}

/// Waits for changes until one of them is as wanted.
fn see(watch: &Watch, mut wanted: impl FnMut(&Changes) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let changes = watch.take();
        if wanted(&changes) {
            return;
        }
        assert!(Instant::now() < deadline, "{changes:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn versions_3_0_to_3_5_are_spoken() {
    let mut driver = Driver::open();
    for minor in 0..=5 {
        let asked = Version::new(3, minor);
        let response = driver.version(asked);
        assert_eq!((response.version, response.accepted, response.outputs), (asked, ACCEPTED, 1));
    }
    for asked in [Version::new(3, 6), Version::new(2, 0), Version::new(4, 0), Version::new(0, 3)] {
        let response = driver.version(asked);
        assert_eq!((response.version, response.accepted), (Version::V3_5, 0), "{asked}");
    }
    // Refused, and asks all the same: no answer. Then it starts over.
    driver.send(message_type::CAPABILITY_REQUEST, &[]);
    driver.negotiate();
}

#[test]
fn the_guest_draws_and_the_host_sees_it() {
    let mut driver = Driver::start(800, 600);
    assert_eq!(driver.memory.address(), Some(WINDOW.start));
    assert_eq!(driver.screen.mode(), Some(Mode { width: 800, height: 600 }));
    let watch = driver.screen.watch().unwrap();
    assert_eq!(driver.wishes(), wishes(1));
    // 2 pixels at 10, 20.
    let at = GuestAddress((20 * 800 + 10) * 4);
    driver.memory.bytes().write_slice(&[1, 2, 3, 4, 5, 6, 7, 8], at).unwrap();
    driver.draw(&[(10, 20, 12, 21), (-5, -6, 3, 4), (790, 599, i32::MAX, i32::MAX)]);
    // Of the first time all counts, as the guest may not have told all.
    see(&watch, |changes| changes.dirty.contains(&Mode { width: 800, height: 600 }.area()));
    driver.settle();
    let _ = watch.take();
    driver.draw(&[(10, 20, 12, 21), (-5, -6, 3, 4)]);
    see(&watch, |changes| {
        changes.dirty == [Rect::between((10, 20), (12, 21)), Rect::between((0, 0), (3, 4))]
    });
    let mut pixels = Vec::new();
    let read = driver.screen.read(Rect { left: 10, top: 20, width: 2, height: 1 }, &mut pixels);
    assert_eq!(read, Some(Rect { left: 10, top: 20, width: 2, height: 1 }));
    assert_eq!(pixels, [1, 2, 3, 4, 5, 6, 7, 8]);
    let read = driver.screen.read(Rect { left: 799, top: 590, width: 100, height: 100 }, &mut pixels);
    assert_eq!((read, pixels.len()), (Some(Rect { left: 799, top: 590, width: 1, height: 10 }), 40));
}

#[test]
fn a_guest_that_nobody_looks_at_is_not_asked_to_tell() {
    let mut driver = Driver::start(800, 600);
    let (first, second) = (driver.screen.watch().unwrap(), driver.screen.watch().unwrap());
    assert_eq!(driver.wishes(), wishes(1));
    drop(first);
    driver.draw(&[(0, 0, 1, 1)]);
    driver.settle();
    assert!(driver.silent(), "somebody still looks");
    drop(second);
    driver.draw(&[(0, 0, 1, 1)]);
    assert_eq!(driver.wishes(), wishes(0));
    let _third = driver.screen.watch().unwrap();
    assert_eq!(driver.wishes(), wishes(1));
    // Linux answers with its situation, and must not be asked again for it.
    driver.situate(800, 600);
    assert!(driver.silent());
}

#[test]
fn what_firmware_draws_is_seen_without_its_telling() {
    let mut driver = Driver::start(1024, 768);
    driver.memory.write(0b1000);
    let watch = driver.screen.watch().unwrap();
    assert!(driver.memory.written().unwrap().is_empty(), "drawn while nobody looked");
    assert_eq!(driver.wishes(), wishes(1));
    let rows = |top, height| Rect { left: 0, top, width: 1024, height };
    // A page is a row of 1024 pixels.
    driver.memory.write(0b110);
    see(&watch, |changes| {
        assert!(!changes.dirty.contains(&rows(3, 1)), "it is in the picture that whoever comes sees first");
        changes.dirty == [rows(1, 2)]
    });
    // The picture stays for the OS that firmware starts.
    let Driver { mut guest, channel, memory, screen } = driver;
    guest.close(channel);
    assert_eq!((memory.address(), screen.mode()), (Some(WINDOW.start), Some(DEFAULT)));
    memory.write(1 << 63);
    see(&watch, |changes| changes.dirty == [rows(63, 1)]);
}

/// As mu_msvm's VideoDxe does (VideoChannelSendSituationUpdate): its output is never active.
#[test]
fn the_firmwares_picture_stayed_dark_because_it_never_says_that_it_is_on() {
    let mut driver = Driver::open();
    driver.negotiate();
    assert_eq!(driver.place(WINDOW.start), CONTEXT);
    let off = |width, height| SituationUpdate { active: 0, ..situation(width, height) };
    let _: Ack = driver.ask(message_type::SITUATION_UPDATE, &off(1024, 768));
    assert_eq!(driver.screen.mode(), Some(DEFAULT));
    assert_eq!(driver.wishes(), wishes(0));
    // A driver that was on means what it says.
    driver.situate(800, 600);
    let _: Ack = driver.ask(message_type::SITUATION_UPDATE, &off(800, 600));
    assert_eq!(driver.screen.mode(), None);
}

#[test]
fn pages_were_no_longer_watched_after_video_memory_had_moved() {
    let mut driver = Driver::start(1024, 768);
    let watch = driver.screen.watch().unwrap();
    assert_eq!(driver.wishes(), wishes(1));
    let nowhere = VramLocation { context: 5.into(), specified: 0, address: 0.into() };
    let _: Ack = driver.ask(message_type::VRAM_LOCATION, &nowhere);
    // The thread sees that there is nothing to look at, and ends.
    while driver.screen.0.state().watched {
        std::thread::yield_now();
    }
    assert_eq!(driver.place(WINDOW.start), CONTEXT);
    see(&watch, |changes| changes.dirty.contains(&DEFAULT.area()));
    driver.memory.write(0b10);
    see(&watch, |changes| changes.dirty == [Rect { left: 0, top: 1, width: 1024, height: 1 }]);
}

#[test]
fn video_memory_is_where_the_guest_wants_it_if_that_can_be() {
    let mut driver = Driver::open();
    driver.negotiate();
    for address in [WINDOW.start + 0x10_0000, WINDOW.end - VRAM_MIN as u64] {
        assert_eq!(driver.place(address), CONTEXT);
        assert_eq!(driver.memory.address(), Some(address));
    }
    let good = driver.memory.address();
    for address in [0, 0x10_0000, WINDOW.start + 1, WINDOW.end - 0x10_0000, u64::MAX - 0xfff] {
        assert_ne!(driver.place(address), CONTEXT, "{address:#x}");
        assert_eq!(driver.memory.address(), good, "and stays where it was");
    }
    driver.memory.refuse(true);
    assert_ne!(driver.place(WINDOW.start), CONTEXT);
    assert_eq!(driver.memory.address(), None);
    driver.memory.refuse(false);
    assert_eq!(driver.place(WINDOW.start), CONTEXT);
    let nowhere = VramLocation { context: 5.into(), specified: 0, address: 0.into() };
    let ack: Ack = driver.ask(message_type::VRAM_LOCATION, &nowhere);
    assert_eq!((ack.context.get(), driver.memory.address()), (5, None));
}

#[test]
fn resolutions_are_offered_with_a_monitor() {
    let mut driver = Driver::open();
    driver.negotiate();
    let list = |driver: &mut Driver, max| {
        driver.send(message_type::RESOLUTION_REQUEST, &[ResolutionRequest { max }.as_bytes()]);
        let (kind, body) = driver.next();
        assert_eq!(kind, message_type::RESOLUTION_RESPONSE);
        let (head, modes) = Resolutions::read_from_prefix(&body).unwrap();
        let modes = <[Resolution]>::ref_from_bytes(modes).unwrap();
        assert_eq!(usize::from(head.count), modes.len());
        assert!(head.preferred < head.count.max(1) && head.edid == edid(driver.screen.0.state().preferred));
        modes.iter().map(|mode| (mode.width.get(), mode.height.get())).collect::<Vec<_>>()
    };
    let all = list(&mut driver, 64);
    assert_eq!(all[0], (1024, 768));
    assert!(all.contains(&(640, 480)) && all.contains(&(1920, 1080)) && !all.contains(&(3840, 2160)));
    assert_eq!(list(&mut driver, 3), all[..3]);
    assert_eq!(list(&mut driver, 0), []);
    assert_eq!(list(&mut driver, 255), all);
}

#[test]
fn the_host_can_change_the_resolution() {
    let mut driver = Driver::open();
    driver.negotiate();
    let request = ResolutionRequest { max: 64 };
    driver.send(message_type::RESOLUTION_REQUEST, &[request.as_bytes()]);
    driver.next();
    driver.situate(1024, 768);
    assert_eq!(driver.wishes(), wishes(0));
    let mode = Mode { width: 1280, height: 1024 };
    driver.screen.prefer(mode).unwrap();
    let (kind, body) = driver.next();
    assert_eq!(
        (kind, &body[..4], &body[4..]),
        (message_type::FEATURE_CHANGE, wishes(0).as_bytes(), &edid(mode)[..])
    );
    driver.send(message_type::RESOLUTION_REQUEST, &[request.as_bytes()]);
    let (_, body) = driver.next();
    assert_eq!(body[131..135], [0, 5, 0, 4]);
    for wrong in [(639, 480), (640, 479), (3841, 2160), (3840, 2160), (u16::MAX, u16::MAX)] {
        driver.screen.prefer(Mode { width: wrong.0, height: wrong.1 }).unwrap_err();
    }
    assert!(driver.silent());
}

#[test]
fn the_pointer_is_seen_while_it_is_visible() {
    let mut driver = Driver::start(800, 600);
    let watch = driver.screen.watch().unwrap();
    driver.wishes();
    let _ = watch.take();
    let shape = PointerShape {
        part: LAST_PART,
        argb: 1,
        width: 1.into(),
        height: 1.into(),
        hot_x: 0.into(),
        hot_y: 0.into(),
    };
    driver.send(message_type::POINTER_SHAPE, &[shape.as_bytes(), &[0, 1, 1, 1]]);
    see(&watch, |changes| changes.cursor);
    assert_eq!(driver.screen.cursor().unwrap().pixels, [0, 1, 1, 1]);
    let mut place = PointerPosition::new_zeroed();
    driver.send(message_type::POINTER_POSITION, &[place.as_bytes()]);
    see(&watch, |changes| changes.cursor);
    assert_eq!(driver.screen.cursor(), None);
    place.visible = 1;
    driver.send(message_type::POINTER_POSITION, &[place.as_bytes()]);
    see(&watch, |changes| changes.cursor);
    assert!(driver.screen.cursor().is_some());
    driver.send(message_type::POINTER_SHAPE, &[shape.as_bytes(), &[0, 1, 1, 1]]);
    driver.settle();
    assert!(watch.take().is_empty(), "the same again is no change");
}

#[test]
fn the_other_questions_have_answers() {
    let mut driver = Driver::open();
    driver.negotiate();
    let bios: BiosInfo = driver.ask(message_type::BIOS_INFO_REQUEST, &[0u8; 0]);
    assert_eq!(bios.stop_device_supported.get(), 1);
    let capability: Capability = driver.ask(message_type::CAPABILITY_REQUEST, &[0u8; 0]);
    assert_eq!(capability.lock_on_disconnect.get(), 0);
}

#[test]
fn a_picture_that_cannot_be_is_acknowledged_and_not_shown() {
    let mut driver = Driver::start(800, 600);
    driver.situate(u32::MAX, u32::MAX);
    assert_eq!(driver.screen.mode(), None);
    assert_eq!(driver.screen.read(DEFAULT.area(), &mut vec![1]), None);
    driver.situate(1920, 1080);
    assert!(driver.screen.mode().is_some());
    driver.situate(1920, 1200);
    assert_eq!(driver.screen.mode(), None);
    let mut off = situation(800, 600);
    off.active = 0;
    let ack: Ack = driver.ask(message_type::SITUATION_UPDATE, &off);
    assert_eq!((ack.context.get(), driver.screen.mode()), (CONTEXT, None));
}

#[test]
fn messages_that_mean_nothing_do_no_harm() {
    let mut driver = Driver::open();
    for kind in (0..20).filter(|&kind| kind != message_type::VERSION_REQUEST) {
        driver.send(kind, &[&[0xff; 200]]);
    }
    driver.negotiate();
    for kind in [0, 2, 4, 6, 9, 12, 14, 16, 17, u32::MAX] {
        driver.send(kind, &[&[0xff; 200]]);
    }
    // Too short for what they are.
    for kind in [1, 3, 5, 7, 8, 10, 13] {
        driver.send(kind, &[]);
    }
    driver.send(message_type::DIRT, &[&[0, 255], &[0; 16]]);
    driver.channel.send(&PacketOut::in_band(0, &[&[9; 3]]));
    driver.settle();
}

#[test]
fn a_device_that_goes_takes_the_picture_and_the_memory_with_it() {
    let mut driver = Driver::start(800, 600);
    let watch = driver.screen.watch().unwrap();
    driver.wishes();
    let _ = watch.take();
    let id = driver.guest.bus.find("video").unwrap();
    driver.guest.bus.remove(id);
    see(&watch, |changes| {
        driver.guest.bus.process();
        changes.mode
    });
    assert_eq!((driver.screen.mode(), driver.memory.address()), (None, None));
}

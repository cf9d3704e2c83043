//! Updates: what is sent, when, and how much.

use std::sync::Arc;

use devices::display::Watch;

use super::super::bands::BAND_PIXELS;
use super::*;
use crate::vnc::tests::client::{Client, Told, Wire};
use crate::vnc::tests::desk::{Hands, TestScreen};

const ZRLE: i32 = 16;

/// A session, its screen, and the viewer's side of it.
struct Fixture {
    screen: Arc<TestScreen>,
    watch: Watch,
    session: Session,
    client: Client,
    out: Vec<u8>,
}

impl Fixture {
    fn new(width: u16, height: u16) -> Self {
        let screen = TestScreen::new(width, height);
        let mut out = Vec::new();
        let session =
            Session::new(screen.display(&Arc::new(Hands::default())), Arc::default(), &mut out).unwrap();
        let client = Client::begin(&mut Wire(out.as_slice()));
        let watch = screen.watch().unwrap();
        let _ = watch.take();
        Fixture { screen, watch, session, client, out: Vec::new() }
    }

    fn say(&mut self, message: Message) {
        self.session.take(message).unwrap();
    }

    fn ask(&mut self, incremental: bool) {
        let area = Mode { width: u16::MAX, height: u16::MAX }.area();
        self.say(Message::Request { incremental, area });
    }

    /// Brings what has changed, and gives the bytes that are sent for it. The viewer takes them at once.
    fn bytes(&mut self) -> usize {
        if self.session.waits() {
            self.session.changed(&self.watch.take());
        }
        let mut all = Vec::new();
        loop {
            self.session.produce(&mut self.out);
            if self.out.is_empty() {
                break;
            }
            all.append(&mut self.out);
        }
        let mut wire = Wire(all.as_slice());
        while !wire.0.is_empty() {
            self.client.update(&mut wire);
        }
        all.len()
    }
}

#[test]
fn an_unchanged_screen_costs_no_byte_after_the_first_update() {
    let mut fixture = Fixture::new(320, 200);
    fixture.say(Message::Encodings(vec![ZRLE, encoding::CURSOR, encoding::EXTENDED_DESKTOP_SIZE]));
    fixture.ask(false);
    while fixture.bytes() > 0 {
        fixture.ask(true);
    }
    assert_eq!(fixture.client.rgb(), fixture.screen.rgb());
    for _ in 0..100 {
        fixture.ask(true);
        assert_eq!(fixture.bytes(), 0);
    }
}

#[test]
fn only_what_changed_is_sent() {
    let mut fixture = Fixture::new(320, 200);
    fixture.ask(true);
    fixture.bytes();
    fixture.client.rects.clear();
    let changed = Rect { left: 31, top: 17, width: 8, height: 5 };
    fixture.screen.fill(changed, [1, 2, 3, 0]);
    assert_eq!(fixture.bytes(), 0, "nothing is sent unasked");
    fixture.ask(true);
    assert_eq!(fixture.bytes(), 4 + 12 + 8 * 5 * 4);
    assert_eq!(fixture.client.rects, [changed]);
    assert_eq!(fixture.client.rgb(), fixture.screen.rgb());
}

#[test]
fn a_request_waits_for_a_change_in_its_part_of_the_picture() {
    let mut fixture = Fixture::new(320, 200);
    fixture.ask(true);
    fixture.bytes();
    fixture.client.rects.clear();
    let part = Rect { left: 0, top: 0, width: 100, height: 100 };
    fixture.say(Message::Request { incremental: true, area: part });
    fixture.screen.fill(Rect { left: 200, top: 0, width: 10, height: 10 }, [0; 4]);
    assert_eq!(fixture.bytes(), 0);
    fixture.screen.fill(Rect { left: 95, top: 0, width: 10, height: 10 }, [0; 4]);
    fixture.bytes();
    assert_eq!(fixture.client.rects, [Rect { left: 95, top: 0, width: 5, height: 10 }]);
    // What was outside is not forgotten.
    fixture.ask(true);
    fixture.bytes();
    assert_eq!(fixture.client.rgb(), fixture.screen.rgb());
}

#[test]
fn a_slow_viewer_gets_less_and_holds_a_bounded_number_of_bytes() {
    let mut fixture = Fixture::new(1920, 1080);
    fixture.ask(false);
    fixture.session.changed(&fixture.watch.take());
    let mut most = 0;
    // It reads nothing: however often there is a change, nothing is added.
    for n in 0..200 {
        fixture.screen.fill(Rect { left: n, top: n, width: 50, height: 50 }, [9; 4]);
        if fixture.session.waits() {
            fixture.session.changed(&fixture.watch.take());
        }
        fixture.session.produce(&mut fixture.out);
        most = most.max(fixture.out.len());
    }
    assert!(most <= OUT_ENOUGH + BAND_PIXELS as usize * 4 + 64, "{most}");
    assert!(fixture.session.pixels.len() <= BAND_PIXELS as usize * 4);
    // Then it reads all, and has the picture as it is now.
    fixture.ask(true);
    fixture.bytes();
    fixture.ask(true);
    fixture.bytes();
    assert_eq!(fixture.client.rgb(), fixture.screen.rgb());
}

#[test]
fn another_resolution_is_told_before_its_pixels() {
    for (number, told) in [
        (encoding::DESKTOP_SIZE, Told::Size(Mode { width: 400, height: 300 })),
        (encoding::EXTENDED_DESKTOP_SIZE, Told::ExtendedSize(0, 0, Mode { width: 400, height: 300 })),
    ] {
        let mut fixture = Fixture::new(320, 200);
        fixture.say(Message::Encodings(vec![number, ZRLE]));
        while {
            fixture.ask(true);
            fixture.bytes() > 0
        } {}
        fixture.client.told.clear();
        fixture.screen.show(Mode { width: 400, height: 300 });
        fixture.bytes();
        assert_eq!(fixture.client.told, [told]);
        fixture.ask(true);
        fixture.bytes();
        assert_eq!(fixture.client.rgb(), fixture.screen.rgb());
        fixture.ask(true);
        assert_eq!(fixture.bytes(), 0);
    }
}

#[test]
fn a_viewer_that_keeps_its_size_sees_a_part_of_a_larger_picture_and_black_around_a_smaller() {
    let mut fixture = Fixture::new(320, 200);
    fixture.ask(true);
    fixture.bytes();
    fixture.screen.show(Mode { width: 400, height: 100 });
    fixture.ask(true);
    fixture.bytes();
    let (seen, shown) = (fixture.client.rgb(), fixture.screen.rgb());
    for y in 0..200 {
        let wanted = if y < 100 { &shown[y * 400..][..320] } else { &[[0; 3]; 320] };
        assert_eq!(&seen[y * 320..][..320], wanted, "row {y}");
    }
    fixture.screen.blank();
    fixture.ask(true);
    fixture.bytes();
    assert!(fixture.client.rgb().iter().all(|pixel| *pixel == [0; 3]));
}

#[test]
fn a_resolution_that_changes_in_the_middle_of_an_update_keeps_its_promise() {
    let mut fixture = Fixture::new(1920, 1080);
    fixture.say(Message::Encodings(vec![encoding::DESKTOP_SIZE]));
    fixture.ask(false);
    fixture.session.produce(&mut fixture.out);
    assert!(fixture.session.update.is_some());
    fixture.screen.show(Mode { width: 640, height: 480 });
    fixture.ask(true);
    // The client follows every byte of it, or panics.
    fixture.bytes();
    fixture.ask(true);
    fixture.bytes();
    fixture.ask(true);
    fixture.bytes();
    assert_eq!(fixture.client.size, Mode { width: 640, height: 480 });
    assert_eq!(fixture.client.rgb(), fixture.screen.rgb());
}

#[test]
fn a_viewers_wish_for_a_size_goes_on_to_the_guest_and_is_answered() {
    let mut fixture = Fixture::new(320, 200);
    let mode = Mode { width: 320, height: 200 };
    let wish = |width, height, screens| Message::DesktopSize { mode: Mode { width, height }, screens };
    fixture.say(wish(640, 480, 1));
    fixture.say(Message::Encodings(vec![encoding::EXTENDED_DESKTOP_SIZE]));
    fixture.ask(true);
    fixture.bytes();
    assert_eq!(fixture.client.told, [Told::ExtendedSize(0, 0, mode)], "the server says that it knows");
    assert_eq!(fixture.screen.preferred(), None, "who does not know the answer is not asking");
    for (wish, status, preferred) in [
        (wish(640, 480, 1), resize::FORWARDED, Some((640, 480))),
        (wish(320, 200, 1), resize::DONE, Some((320, 200))),
        (wish(640, 480, 2), resize::INVALID_LAYOUT, None),
        (wish(640, 480, 0), resize::INVALID_LAYOUT, None),
        (wish(0, 0, 1), resize::INVALID_LAYOUT, None),
        (wish(1025, 768, 1), resize::OUT_OF_RESOURCES, None),
    ] {
        fixture.client.told.clear();
        fixture.say(wish);
        fixture.ask(true);
        fixture.bytes();
        assert_eq!(fixture.client.told, [Told::ExtendedSize(resize::BY_THIS_CLIENT, status, mode)]);
        assert_eq!(fixture.screen.preferred().map(|mode| (mode.width, mode.height)), preferred);
    }
    // The guest follows.
    fixture.client.told.clear();
    fixture.screen.show(Mode { width: 640, height: 480 });
    fixture.ask(true);
    fixture.bytes();
    assert_eq!(fixture.client.told, [Told::ExtendedSize(0, 0, Mode { width: 640, height: 480 })]);
}

#[test]
fn the_pointers_shape_is_sent_when_it_changes() {
    let mut fixture = Fixture::new(320, 200);
    let mut pixels = [10, 20, 30, 255].repeat(9 * 2);
    // The pixel before the last is not there.
    pixels[17 * 4 - 1] = 0;
    let cursor = Cursor { width: 9, height: 2, hot_x: 3, hot_y: 1, pixels: pixels.clone() };
    fixture.say(Message::Encodings(vec![encoding::CURSOR]));
    fixture.ask(true);
    fixture.bytes();
    let rect = |left, top, width, height| Rect { left, top, width, height };
    assert_eq!(fixture.client.told, [Told::Cursor(rect(0, 0, 0, 0), vec![])], "no pointer yet");
    fixture.screen.point(Some(cursor.clone()));
    fixture.ask(true);
    fixture.bytes();
    let mask = [0xff, 0x80, 0xfe, 0x80];
    assert_eq!(fixture.client.told[1], Told::Cursor(rect(3, 1, 9, 2), [pixels.as_slice(), &mask].concat()));
    for bad in [
        Cursor { width: 0, pixels: vec![], ..cursor.clone() },
        Cursor { hot_x: 9, ..cursor.clone() },
        Cursor { height: 3, ..cursor.clone() },
        Cursor { width: 5000, height: 1, pixels: vec![0; 20000], ..cursor.clone() },
    ] {
        fixture.client.told.clear();
        fixture.screen.point(Some(bad));
        fixture.ask(true);
        fixture.bytes();
        assert_eq!(fixture.client.told, [Told::Cursor(rect(0, 0, 0, 0), vec![])]);
    }
}

#[test]
fn a_new_pixel_format_counts_from_the_next_update() {
    let mut fixture = Fixture::new(320, 200);
    let mapped = crate::vnc::PixelFormat { bits_per_pixel: 8, depth: 8, true_colour: 0, ..NATIVE };
    fixture.say(Message::PixelFormat(mapped));
    fixture.ask(false);
    fixture.client.format =
        crate::vnc::tests::client::Format { bytes: 1, big_endian: false, compact: (0, 1) };
    fixture.bytes();
    assert!(matches!(&fixture.client.told[..], [Told::ColourMap(map)] if map.len() == 256 * 6));
    assert!(fixture.client.picture.iter().all(Option::is_some));
    let wrong = crate::vnc::PixelFormat { bits_per_pixel: 7, ..NATIVE };
    assert!(fixture.session.take(Message::PixelFormat(wrong)).is_err());
}

#[test]
fn a_viewer_learns_once_that_keys_may_have_places() {
    let mut fixture = Fixture::new(320, 200);
    for _ in 0..2 {
        fixture.say(Message::Encodings(vec![encoding::QEMU_EXTENDED_KEY_EVENT]));
        fixture.ask(false);
        fixture.bytes();
    }
    assert_eq!(fixture.client.told, [Told::ExtendedKeys]);
}

#[test]
fn the_largest_picture_is_an_update_that_can_be_counted() {
    let huge = Mode { width: u16::MAX, height: u16::MAX }.area();
    assert_eq!(bands(vec![huge]).len(), 32768);
    let rects = vec![huge; 64];
    assert_eq!(bands(rects).len(), 32768);
    assert_eq!(bands(vec![]).len(), 0);
    let covered: u32 = bands(vec![huge]).iter().map(|band| u32::from(band.height)).sum();
    assert_eq!(covered, u32::from(u16::MAX));
}

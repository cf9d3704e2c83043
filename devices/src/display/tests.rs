//! The seam's rules: what a viewer is told, and how much it may cost.

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::*;

const fn rect(left: u16, top: u16, width: u16, height: u16) -> Rect {
    Rect { left, top, width, height }
}

fn readable(watch: &Watch) -> bool {
    let epoll = Epoll::new().unwrap();
    epoll.ctl(ControlOperation::Add, watch.fd(), EpollEvent::new(EventSet::IN, 0)).unwrap();
    epoll.wait(0, &mut [EpollEvent::default()]).unwrap() == 1
}

/// A viewer that has taken the first look.
fn viewer(viewers: &Viewers) -> Watch {
    let watch = viewers.watch().unwrap();
    assert_eq!(watch.take(), Changes { mode: true, cursor: true, dirty: vec![] });
    watch
}

#[test]
fn a_watch_is_readable_exactly_while_it_has_something() {
    let viewers = Viewers::default();
    let watch = viewers.watch().unwrap();
    assert!(readable(&watch));
    assert!(!watch.take().is_empty());
    assert!(!readable(&watch));
    assert!(watch.take().is_empty());
    viewers.dirty(&[rect(5, 5, 0, 9)]);
    assert!(!readable(&watch), "an empty rectangle is no change");
    viewers.dirty(&[rect(5, 5, 1, 9)]);
    viewers.cursor();
    assert!(readable(&watch));
    assert_eq!(watch.take(), Changes { mode: false, cursor: true, dirty: vec![rect(5, 5, 1, 9)] });
    assert!(!readable(&watch));
}

#[test]
fn rectangles_that_continue_each_other_are_one() {
    let viewers = Viewers::default();
    let watch = viewer(&viewers);
    // Rows of text, a hole, what fills it, and what lies within.
    viewers.dirty(&[rect(0, 0, 80, 16), rect(0, 32, 80, 16), rect(0, 16, 80, 16), rect(8, 8, 8, 40)]);
    assert_eq!(watch.take().dirty, [rect(0, 0, 80, 48)]);
    viewers.dirty(&[rect(0, 0, 10, 10), rect(10, 0, 10, 11)]);
    assert_eq!(watch.take().dirty, [rect(0, 0, 10, 10), rect(10, 0, 10, 11)]);
}

#[test]
fn a_viewer_that_never_looks_costs_64_rectangles() {
    let viewers = Viewers::default();
    let watch = viewer(&viewers);
    let scattered = |n: u16| rect(3 * n, 5 * n, 2, 2);
    (0..DIRTY_MAX as u16).for_each(|n| viewers.dirty(&[scattered(n)]));
    assert_eq!(watch.pending.lock().dirty.len(), DIRTY_MAX);
    (DIRTY_MAX as u16..1000).for_each(|n| viewers.dirty(&[scattered(n)]));
    let dirty = watch.take().dirty;
    assert!(dirty.len() <= DIRTY_MAX);
    for n in 0..1000 {
        assert!(dirty.iter().any(|have| have.common(scattered(n)) == scattered(n)), "{n}");
    }
}

#[test]
fn what_changed_in_the_last_mode_is_forgotten_with_it() {
    let viewers = Viewers::default();
    let watch = viewer(&viewers);
    viewers.dirty(&[rect(700, 500, 9, 9)]);
    viewers.mode();
    viewers.dirty(&[rect(1, 1, 2, 2)]);
    assert_eq!(watch.take(), Changes { mode: true, cursor: false, dirty: vec![rect(1, 1, 2, 2)] });
}

#[test]
fn viewers_look_each_at_its_own_pace_and_go_when_dropped() {
    let viewers = Viewers::default();
    let (slow, fast) = (viewer(&viewers), viewer(&viewers));
    viewers.dirty(&[rect(0, 0, 1, 1)]);
    assert_eq!(fast.take().dirty.len(), 1);
    viewers.dirty(&[rect(9, 9, 1, 1)]);
    assert_eq!((fast.take().dirty.len(), slow.take().dirty.len()), (1, 2));
    drop(slow);
    assert!(viewers.any());
    drop(fast);
    assert!(!viewers.any());
    viewers.cursor();
    assert!(viewers.lock().is_empty());
}

#[test]
fn rectangles_at_the_edge_of_the_numbers_stay_in_them() {
    let far = rect(u16::MAX, u16::MAX, u16::MAX, u16::MAX);
    assert_eq!((far.right(), far.bottom()), (u16::MAX, u16::MAX));
    assert!(far.common(Mode { width: 800, height: 600 }.area()).is_empty());
    let most = Mode { width: u16::MAX, height: u16::MAX }.area();
    assert_eq!(most.cover(far), most);
    assert_eq!(rect(10, 10, 5, 5).common(rect(12, 0, 100, 12)), rect(12, 10, 3, 2));
}

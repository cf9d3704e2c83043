//! Watches the pages of video memory for guests that do not tell what they draw: firmware, boot loaders, an OS before
//! its driver runs.
//!
//! A thread that is there only while somebody looks at such a guest; a few times a second it asks the hypervisor
//! which pages were written, and less often while none are.

use std::sync::{Arc, Weak};
use std::thread::Builder;
use std::time::Duration;

use super::picture::Picture;
use super::screen::{Shared, State};
use crate::display::Rect;

/// Between two looks while the guest draws; each that finds nothing lets the next one wait as much longer.
const PERIOD: Duration = Duration::from_millis(50);
/// Between two looks at most. People notice more.
const PERIOD_MAX: Duration = Duration::from_millis(250);

/// Whether nobody else tells the viewers, if there are any.
fn needed(shared: &Shared, state: &State) -> bool {
    !state.tells && state.picture.is_some() && state.location.is_some() && shared.viewers.any()
}

/// Begins to watch, if that is needed and not done yet.
pub(super) fn watch(shared: &Arc<Shared>) {
    let mut state = shared.state();
    if state.watched || !needed(shared, &state) {
        return;
    }
    let weak = Arc::downgrade(shared);
    match Builder::new().name("video-pages".to_owned()).spawn(move || run(&weak)) {
        Ok(_) => state.watched = true,
        Err(error) => log::warn!("video: what the guest draws is not seen: {error}"),
    }
}

fn run(shared: &Weak<Shared>) {
    let mut period = PERIOD;
    while let Some(shared) = shared.upgrade() {
        let Some(drew) = look(&shared) else { return };
        drop(shared);
        period = next(period, drew);
        std::thread::sleep(period);
    }
}

/// How long to wait for the next look, after one that came so long after the one before.
fn next(period: Duration, drew: bool) -> Duration {
    if drew { PERIOD } else { (period + PERIOD).min(PERIOD_MAX) }
}

/// Whether the guest drew; `None` when nobody needs to know any more.
fn look(shared: &Shared) -> Option<bool> {
    let mut state = shared.state();
    let (true, Some(picture)) = (needed(shared, &state), state.picture) else {
        state.watched = false;
        return None;
    };
    // Under the lock: the memory is not moved meanwhile.
    match shared.memory.written() {
        Ok(pages) => {
            drop(state);
            let rows = rows(&picture, &pages);
            shared.viewers.dirty(&rows);
            Some(!rows.is_empty())
        }
        Err(error) => {
            log::warn!("video: what the guest draws is not seen: {error}");
            state.watched = false;
            None
        }
    }
}

/// Runs of written pages, as rows of the picture.
fn rows(picture: &Picture, written: &[u64]) -> Vec<Rect> {
    let bit = |page: usize| written.get(page / 64).is_some_and(|word| word >> (page % 64) & 1 != 0);
    let mut rows = Vec::new();
    let mut begin = None;
    for page in 0..=written.len() * 64 {
        match (bit(page), begin) {
            (true, None) => begin = Some(page),
            (false, Some(first)) => {
                rows.push(picture.rows(first, page));
                begin = None;
            }
            _ => {}
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_still_picture_is_looked_at_less_often_until_it_changes() {
        let mut period = PERIOD;
        for milliseconds in [100, 150, 200, 250, 250] {
            period = next(period, false);
            assert_eq!(period, Duration::from_millis(milliseconds));
        }
        assert_eq!(next(period, true), PERIOD);
    }
}

//! What a viewer does not have yet of the picture, as a bounded number of rectangles.

use devices::display::{DIRTY_MAX, Mode, Rect};

/// Rectangles of a picture; they may overlap.
#[derive(Debug, Default)]
pub(super) struct Region(Vec<Rect>);

impl Region {
    /// Adds what lies in the picture of a rectangle.
    pub(super) fn add(&mut self, rect: Rect, picture: Mode) {
        let rect = rect.common(picture.area());
        if rect.is_empty() || self.0.iter().any(|known| known.common(rect) == rect) {
            return;
        }
        self.0.retain(|known| known.common(rect) != *known);
        self.0.push(rect);
        if self.0.len() > DIRTY_MAX {
            let cover = self.0.drain(..).reduce(Rect::cover);
            self.0.extend(cover);
        }
    }

    /// Takes out what lies in `area`.
    pub(super) fn take(&mut self, area: Rect) -> Vec<Rect> {
        let mut taken = Vec::new();
        for rect in std::mem::take(&mut self.0) {
            let common = rect.common(area);
            if common.is_empty() {
                self.0.push(rect);
                continue;
            }
            taken.push(common);
            self.0.extend(around(rect, common).into_iter().filter(|rect| !rect.is_empty()));
        }
        if self.0.len() > DIRTY_MAX {
            let cover = self.0.drain(..).reduce(Rect::cover);
            self.0.extend(cover);
        }
        taken
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// What is left of a rectangle when a part of it is taken out: above, below, left and right of it.
fn around(rect: Rect, part: Rect) -> [Rect; 4] {
    [
        Rect::between((rect.left, rect.top), (rect.right(), part.top)),
        Rect::between((rect.left, part.bottom()), (rect.right(), rect.bottom())),
        Rect::between((rect.left, part.top), (part.left, part.bottom())),
        Rect::between((part.right(), part.top), (rect.right(), part.bottom())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: Mode = Mode { width: 100, height: 80 };

    const fn rect(left: u16, top: u16, width: u16, height: u16) -> Rect {
        Rect { left, top, width, height }
    }

    #[test]
    fn what_is_taken_and_what_is_left_are_all_of_it() {
        let mut region = Region::default();
        region.add(rect(10, 10, 30, 30), PICTURE);
        region.add(rect(90, 70, 50, 50), PICTURE);
        region.add(rect(200, 0, 1, 1), PICTURE);
        assert_eq!(region.take(rect(20, 20, 10, 10)), [rect(20, 20, 10, 10)]);
        let mut left = region.take(PICTURE.area());
        left.sort_unstable_by_key(|rect| (rect.top, rect.left));
        assert_eq!(
            left,
            [
                rect(10, 10, 30, 10),
                rect(10, 20, 10, 10),
                rect(30, 20, 10, 10),
                rect(10, 30, 30, 10),
                rect(90, 70, 10, 10)
            ]
        );
        assert!(region.take(PICTURE.area()).is_empty());
    }

    #[test]
    fn a_rectangle_within_another_is_not_sent_twice() {
        let mut region = Region::default();
        region.add(rect(10, 10, 5, 5), PICTURE);
        region.add(rect(0, 0, 50, 50), PICTURE);
        region.add(rect(20, 20, 5, 5), PICTURE);
        assert_eq!(region.take(PICTURE.area()), [rect(0, 0, 50, 50)]);
    }

    #[test]
    fn a_region_is_bounded_however_it_is_cut() {
        let mut region = Region::default();
        for n in 0..1000u16 {
            region.add(rect(n % 97, n * 7 % 71, 2, 2), PICTURE);
            region.take(rect(n * 3 % 90, n % 70, 1, 1));
            assert!(region.0.len() <= DIRTY_MAX);
        }
    }
}

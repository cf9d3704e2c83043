//! The engine's tests. Each body runs for both ways of moving bytes.

mod ends;
mod errors;
mod model;
mod paths;
mod rig;
mod uring;

/// Makes two tests of each body, which takes the engine.
macro_rules! for_both_engines {
    ($($name:ident),* $(,)?) => {
        mod by_uring {
            $(#[test] fn $name() { super::$name(crate::disk::Engine::Uring) })*
        }
        mod by_threads {
            $(#[test] fn $name() { super::$name(crate::disk::Engine::Threads) })*
        }
    };
}
use for_both_engines;

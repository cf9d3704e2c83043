//! The control socket's request parser against any bytes.
//!
//! Whatever comes: no panic, a decision within the bounds that it names, and the same decision however the bytes
//! are cut: what was incomplete may become anything, what was a request or an error stays it.
//!
//! Run it with `cargo fuzz run api` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

use busman::api::http::{BODY_MAX, HEAD_MAX, HttpError, REQUEST_MAX, Request, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Some(used) = one(rest) {
        rest = rest.get(used..).expect("no more is used than there was");
    }
});

/// Parses one request, whole and in pieces; gives its length.
fn one(bytes: &[u8]) -> Option<usize> {
    let bytes = &bytes[..bytes.len().min(REQUEST_MAX)];
    let whole = parse(bytes);
    let (request, used) = match &whole {
        Ok(Some((request, used))) => (Some(request), *used),
        Ok(None) => {
            assert!(bytes.len() < REQUEST_MAX, "a full buffer is a decision");
            return None;
        }
        Err(_) => (None, bytes.len()),
    };
    if let Some(request) = request {
        check(request, used);
    }
    // From a decision on, more bytes change nothing; before it there is none.
    let mut cut = 0;
    while cut < used {
        match (parse(&bytes[..cut]), &whole) {
            (Ok(None), _) => {}
            (Err(early), Err(late)) => {
                assert!(early == *late || too_long(&early, late), "{early} became {late}")
            }
            (early, late) => panic!("{early:?} became {late:?}"),
        }
        cut += 1 + cut / 8;
    }
    request.map(|_| used)
}

/// A head that is too long can turn out to be malformed as well, further on.
fn too_long(early: &HttpError, late: &HttpError) -> bool {
    *early == HttpError::HeadTooLong || *late == HttpError::HeadTooLong
}

fn check(request: &Request, used: usize) {
    assert!(used > 0 && used <= REQUEST_MAX);
    assert!(request.body.len() <= BODY_MAX && request.body.len() <= used);
    assert!(request.method.len() + request.path.len() <= HEAD_MAX);
    assert!(request.method.bytes().all(|byte| byte.is_ascii_graphic()));
}

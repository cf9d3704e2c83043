//! HTTP/1.1 as far as the control socket speaks it: requests from bytes, responses to bytes.
//!
//! Pure: `connection` reads and writes. [`parse`] sees the bytes that have come so far and
//! never more than [`REQUEST_MAX`] of them. A client is trusted with nothing but its connection: what is
//! malformed, too long or not supported ends it, with a sentence that says why.

use std::fmt::Write;

use serde::Serialize;
use thiserror::Error;

/// Longest request line and headers, bytes.
pub const HEAD_MAX: usize = 8 << 10;
/// Longest body of a request, bytes; the longest that means anything has a dozen.
pub const BODY_MAX: usize = 4 << 10;
/// Bytes that make a request complete or an error.
pub const REQUEST_MAX: usize = HEAD_MAX + BODY_MAX;
/// Headers of a request.
const HEADERS_MAX: usize = 32;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In capitals, for instance `GET`.
    pub method: String,
    /// From the first slash on.
    pub path: String,
    /// Empty if there is none.
    pub body: Vec<u8>,
    /// The client may send another one.
    pub keep_alive: bool,
}

/// Why a request is none; the connection ends with it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HttpError {
    /// No HTTP/1.
    #[error("This is no HTTP/1.1 request: {0}")]
    Malformed(httparse::Error),
    /// Too much before the body.
    #[error("The request's head is too long: at most {HEAD_MAX} bytes and {HEADERS_MAX} headers")]
    HeadTooLong,
    /// Too much of a body.
    #[error("The request's body is too long: at most {BODY_MAX} bytes")]
    BodyTooLong,
    /// A length that is no number, or given twice.
    #[error("Content-Length is not one number")]
    Length,
    /// A body in chunks.
    #[error("Transfer-Encoding is not supported; send a Content-Length")]
    Chunked,
    /// A client that wants to be asked for the body.
    #[error("Expect is not supported; send the body at once")]
    Expect,
    /// It did not come in time.
    #[error("The request took too long")]
    Slow,
}

impl HttpError {
    /// The status that goes with it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            HttpError::Malformed(_) | HttpError::Length => 400,
            HttpError::Slow => 408,
            HttpError::BodyTooLong => 413,
            HttpError::Expect => 417,
            HttpError::HeadTooLong => 431,
            HttpError::Chunked => 501,
        }
    }
}

/// Takes a request from the start of `bytes`, and says how many of them it was; `None` if it is not complete.
///
/// # Errors
/// When it never will be a request that is served.
pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(bytes.get(..HEAD_MAX).unwrap_or(bytes)) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(HttpError::HeadTooLong);
        }
        Err(error) => return Err(HttpError::Malformed(error)),
    };
    let framing = Framing::of(parsed.headers)?;
    let Some(body) = bytes.get(head..).and_then(|rest| rest.get(..framing.body)) else { return Ok(None) };
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path_of(parsed.path.unwrap_or_default()).to_owned(),
        body: body.to_vec(),
        keep_alive: parsed.version == Some(1) && !framing.close,
    };
    Ok(Some((request, head + framing.body)))
}

/// What the headers say of the connection.
#[derive(Default)]
struct Framing {
    body: usize,
    close: bool,
}

impl Framing {
    fn of(headers: &[httparse::Header<'_>]) -> Result<Self, HttpError> {
        let mut framing = Framing::default();
        let mut length = None;
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let previous = length.replace(content_length(header.value)?);
                if previous.is_some() {
                    return Err(HttpError::Length);
                }
            } else if is("transfer-encoding") {
                return Err(HttpError::Chunked);
            } else if is("expect") {
                return Err(HttpError::Expect);
            } else if is("connection") {
                framing.close |= header.value.to_ascii_lowercase().windows(5).any(|word| word == b"close");
            }
        }
        framing.body = length.unwrap_or(0);
        if framing.body > BODY_MAX { Err(HttpError::BodyTooLong) } else { Ok(framing) }
    }
}

fn content_length(value: &[u8]) -> Result<usize, HttpError> {
    let text = std::str::from_utf8(value).map_err(|_| HttpError::Length)?.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HttpError::Length);
    }
    // More digits than a number has are too long, not malformed.
    text.parse().map_err(|_| HttpError::BodyTooLong)
}

/// The path of a target, which clients with proxies in mind write with scheme and host.
fn path_of(target: &str) -> &str {
    let Some((_, rest)) = target.split_once("://").filter(|(scheme, _)| !scheme.contains('/')) else {
        return target;
    };
    rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/")
}

/// What almost every body is.
pub const JSON: &str = "application/json";
/// What a screenshot is.
pub const PNG: &str = "image/png";

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// For instance 200.
    pub status: u16,
    /// What the body is, for instance `application/json`.
    pub content_type: &'static str,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// Methods that the path has, when the request's is none of them.
    pub allow: Option<String>,
}

/// The body of every error.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

impl Response {
    /// A response without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Response { status, content_type: JSON, body: None, allow: None }
    }

    /// Data as JSON.
    #[must_use]
    pub fn json(data: &impl Serialize) -> Self {
        match serde_json::to_vec(data) {
            Ok(body) => Response::file(JSON, body),
            Err(error) => Response::error(500, &format!("The answer cannot be written as JSON: {error}")),
        }
    }

    /// A file of some kind.
    #[must_use]
    pub fn file(content_type: &'static str, body: Vec<u8>) -> Self {
        Response { status: 200, content_type, body: Some(body), allow: None }
    }

    /// An error with its sentence.
    #[must_use]
    pub fn error(status: u16, sentence: &str) -> Self {
        let body = serde_json::to_vec(&ErrorBody { error: sentence }).ok();
        Response { status, content_type: JSON, body, allow: None }
    }

    /// Head and body as they are sent.
    #[must_use]
    pub fn bytes(&self, keep_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        if self.body.is_some() {
            let _ = write!(head, "Content-Type: {}\r\n", self.content_type);
        }
        // 204 has no length: it never has a body.
        if self.status != 204 {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.as_ref().map_or(0, Vec::len));
        }
        if let Some(allow) = &self.allow {
            let _ = write!(head, "Allow: {allow}\r\n");
        }
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: &[u8]) -> Request {
        let (request, used) = parse(bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        request
    }

    fn error(bytes: &[u8]) -> HttpError {
        parse(bytes).unwrap_err()
    }

    #[test]
    fn a_request_is_method_path_and_body() {
        let get = request(b"GET /api/v1/vm HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!((get.method.as_str(), get.path.as_str()), ("GET", "/api/v1/vm"));
        assert!(get.body.is_empty() && get.keep_alive);
        let put = request(b"PUT /x HTTP/1.1\r\ncontent-LENGTH: 4\r\nConnection: keep, Close\r\n\r\n{\"a\"");
        assert_eq!((put.body.as_slice(), put.keep_alive), (b"{\"a\"".as_slice(), false));
        assert!(!request(b"GET / HTTP/1.0\r\n\r\n").keep_alive);
    }

    #[test]
    fn a_request_may_come_in_pieces_and_with_the_next_one_behind_it() {
        let first = b"PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        for len in 0..first.len() {
            assert_eq!(parse(&first[..len]), Ok(None), "{len}");
        }
        let both = [first.as_slice(), b"GET /b HTTP/1.1\r\n\r\n"].concat();
        let (request, used) = parse(&both).unwrap().unwrap();
        assert_eq!((request.path.as_str(), used), ("/a", first.len()));
    }

    #[test]
    fn a_target_with_scheme_and_host_is_its_path() {
        for (target, path) in [
            ("http://localhost/api/v1/vm", "/api/v1/vm"),
            ("http://localhost", "/"),
            ("/a://b", "/a://b"),
            ("*", "*"),
        ] {
            assert_eq!(request(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()).path, path);
        }
    }

    #[test]
    fn what_is_no_request_has_a_reason() {
        for garbage in [b"\x16\x03\x01\x02\x00".as_slice(), b"hello\r\n\r\n", b"GET / HTTP/2\r\n\r\n"] {
            assert!(matches!(error(garbage), HttpError::Malformed(_)), "{garbage:?}");
        }
        let with = |header: &str| error(format!("PUT / HTTP/1.1\r\n{header}\r\n\r\n").as_bytes());
        for length in ["-1", "+1", "1,1", "0x1", "", "1\r\nContent-Length: 1"] {
            assert_eq!(with(&format!("Content-Length: {length}")), HttpError::Length, "{length}");
        }
        assert_eq!(with("Content-Length: 4097"), HttpError::BodyTooLong);
        assert_eq!(with("Content-Length: 99999999999999999999999"), HttpError::BodyTooLong);
        assert_eq!(with("Transfer-Encoding: chunked"), HttpError::Chunked);
        assert_eq!(with("Expect: 100-continue"), HttpError::Expect);
        assert_eq!(with(&"A: b\r\n".repeat(40)), HttpError::HeadTooLong);
        assert_eq!(error(&[b'A'; HEAD_MAX]), HttpError::HeadTooLong);
        assert_eq!(error(&b"\r\n".repeat(HEAD_MAX)), HttpError::HeadTooLong, "blank lines come first");
    }

    #[test]
    fn the_longest_request_is_complete() {
        let mut longest = b"PUT / HTTP/1.1\r\nContent-Length: 4096\r\nX: ".to_vec();
        longest.resize(HEAD_MAX - 4, b'x');
        longest.extend(b"\r\n\r\n");
        longest.resize(REQUEST_MAX, b' ');
        assert_eq!(request(&longest).body.len(), BODY_MAX);
    }

    #[test]
    fn responses_say_how_long_they_are() {
        let text = |response: Response, keep| String::from_utf8(response.bytes(keep)).unwrap();
        assert_eq!(text(Response::empty(204), true), "HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(text(Response::empty(202), true), "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
        let not_found = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\
                         Connection: close\r\n\r\n{\"error\":\"no\"}";
        assert_eq!(text(Response::error(404, "no"), false), not_found);
    }
}

//! Key-value pair exchange (KVP): what the guest says of itself, what it is told, and its network's addresses.
//!
//! Whoever runs the machine holds a [`KvpHandle`] and asks for one thing at a time; enumerating a pool is many messages
//! and one request. In Linux a program (`hv_kvp_daemon`) answers: until it runs, the guest leaves even the negotiation
//! in the ring for a while, and then refuses what it is asked.

mod ip;
pub mod protocol;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::RawFd;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub use self::ip::{IpInfo, Network};
use self::protocol::{
    DeleteMessage, EnumerateMessage, IpTextMessage, KvpHeader, Record, RecordMessage, VALUE_BYTES, operation,
    value_type,
};
use super::device::{IcDevice, Service};
use super::protocol::{IcVersion, message_type, status};
use super::requests::{GuestError, RequestQueue, RequestSender};
use super::text;
use crate::guid::Guid;

/// Pairs that a pool may have; a guest that has more is cut short.
pub const PAIRS_MAX: usize = 1024;

const VERSION_5: IcVersion = IcVersion::new(5, 0);

/// A set of pairs, by who makes them and who reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// The host makes them for the guest's programs.
    External,
    /// The guest's programs make them for the host.
    Guest,
    /// The guest's service makes them: names, versions, addresses.
    #[default]
    Auto,
    /// The host makes them to tell the guest about itself.
    AutoExternal,
}

impl Pool {
    /// All of them, in the order of their numbers.
    pub const ALL: [Pool; 4] = [Pool::External, Pool::Guest, Pool::Auto, Pool::AutoExternal];

    /// As users write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Pool::External => "external",
            Pool::Guest => "guest",
            Pool::Auto => "auto",
            Pool::AutoExternal => "auto-external",
        }
    }

    fn number(self) -> u8 {
        match self {
            Pool::External => 0,
            Pool::Guest => 1,
            Pool::Auto => 2,
            Pool::AutoExternal => 3,
        }
    }
}

/// No such pool.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("There is no pool {0:?}; pools are external, guest, auto and auto-external")]
pub struct UnknownPool(String);

impl FromStr for Pool {
    type Err = UnknownPool;

    fn from_str(name: &str) -> Result<Self, UnknownPool> {
        let pool = Pool::ALL.into_iter().find(|pool| pool.name() == name);
        pool.ok_or_else(|| UnknownPool(name.to_owned()))
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// At most 255 UTF-16 code units.
    pub key: String,
    /// At most 1023 UTF-16 code units; numbers are decimal.
    pub value: String,
}

/// What a guest can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvpRequest {
    /// For the value of a key. Linux' answer lacks the value's first four bytes: ask it for all pairs instead.
    Get(Pool, String),
    /// To keep a value.
    Set(Pool, Pair),
    /// To forget a key.
    Delete(Pool, String),
    /// For all pairs of a pool.
    Enumerate(Pool),
    /// For a network adapter's addresses. Linux wants its hardware address, with colons.
    GetIp(String),
    /// To set a network adapter's addresses. Linux wants its instance's GUID, in braces and in small letters.
    SetIp(String, IpInfo),
}

/// What a guest answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvpAnswer {
    /// It is done.
    Done,
    /// The value.
    Value(Pair),
    /// All pairs.
    Pairs(Vec<Pair>),
    /// The addresses.
    Ip(IpInfo),
}

/// Asks the guest.
pub type KvpHandle = RequestSender<KvpRequest, KvpAnswer>;

/// A request that is being carried out.
#[derive(Debug)]
struct Job {
    request: KvpRequest,
    /// What enumeration has found so far.
    pairs: Vec<Pair>,
}

/// The service.
#[derive(Debug)]
pub struct Kvp {
    queue: RequestQueue<KvpRequest, KvpAnswer>,
    version: IcVersion,
    job: Option<Job>,
}

impl Kvp {
    /// The device, and the handle for the machine's owner.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn device() -> io::Result<(IcDevice<Kvp>, KvpHandle)> {
        let queue = RequestQueue::new("hv_kvp_daemon")?;
        let handle = queue.sender();
        Ok((IcDevice::new(Kvp { queue, version: VERSION_5, job: None }), handle))
    }

    /// The body of a message for the present job.
    fn body(&self, job: &Job) -> Result<Vec<u8>, GuestError> {
        let header = |operation, pool: Pool| KvpHeader { operation, pool: pool.number() };
        match &job.request {
            KvpRequest::Get(pool, key) => record(header(operation::GET, *pool), key, ""),
            KvpRequest::Set(pool, pair) => record(header(operation::SET, *pool), &pair.key, &pair.value),
            KvpRequest::Delete(pool, key) => {
                let mut message = DeleteMessage::new_zeroed();
                message.header = header(operation::DELETE, *pool);
                message.key_size = text::write("The key", key, &mut message.key)?.into();
                Ok(message.as_bytes().to_vec())
            }
            KvpRequest::Enumerate(pool) => {
                let mut message = EnumerateMessage::new_zeroed();
                message.header = header(operation::ENUMERATE, *pool);
                message.index = u32::try_from(job.pairs.len()).unwrap_or(u32::MAX).into();
                Ok(message.as_bytes().to_vec())
            }
            KvpRequest::GetIp(adapter) => {
                self.ip(header(operation::GET_IP_INFO, Pool::Guest), adapter, &IpInfo::default())
            }
            KvpRequest::SetIp(adapter, info) => {
                info.check()?;
                self.ip(header(operation::SET_IP_INFO, Pool::Guest), adapter, info)
            }
        }
    }

    fn ip(&self, header: KvpHeader, adapter: &str, info: &IpInfo) -> Result<Vec<u8>, GuestError> {
        let write = if self.version == VERSION_5 { ip::to_binary } else { ip::to_text };
        write(header, adapter, info)
    }

    /// What an answer brings to a job: its end, unless that is `None`.
    fn step(&self, job: &mut Job, status: u32, body: &[u8]) -> Result<Option<KvpAnswer>, GuestError> {
        if status == status::NO_MORE_ITEMS && matches!(job.request, KvpRequest::Enumerate(_)) {
            return Ok(Some(KvpAnswer::Pairs(std::mem::take(&mut job.pairs))));
        }
        if status != status::SUCCESS {
            return Err(GuestError::Refused(status));
        }
        Ok(Some(match &job.request {
            KvpRequest::Set(..) | KvpRequest::Delete(..) | KvpRequest::SetIp(..) => KvpAnswer::Done,
            KvpRequest::Get(_, key) => {
                let record = RecordMessage::ref_from_prefix(body).map_err(|_| short(body))?.0.record;
                KvpAnswer::Value(Pair { key: key.clone(), value: value(&record)? })
            }
            KvpRequest::Enumerate(_) => {
                let record = EnumerateMessage::ref_from_prefix(body).map_err(|_| short(body))?.0.record;
                let key = text::read("its key", &record.key, record.key_size.get())?;
                job.pairs.push(Pair { key, value: value(&record)? });
                if job.pairs.len() < PAIRS_MAX {
                    return Ok(None);
                }
                KvpAnswer::Pairs(std::mem::take(&mut job.pairs))
            }
            KvpRequest::GetIp(_) if self.version == VERSION_5 => KvpAnswer::Ip(ip::from_binary(body)?),
            KvpRequest::GetIp(_) => KvpAnswer::Ip(ip::from_text(body)?),
        }))
    }
}

fn record(header: KvpHeader, key: &str, value: &str) -> Result<Vec<u8>, GuestError> {
    let mut message = RecordMessage::new_zeroed();
    message.header = header;
    let record = &mut message.record;
    record.value_type = value_type::STRING.into();
    record.key_size = text::write("The key", key, &mut record.key)?.into();
    let mut units = [zerocopy::little_endian::U16::ZERO; VALUE_BYTES / 2];
    record.value_size = text::write("The value", value, &mut units)?.into();
    record.value.copy_from_slice(units.as_bytes());
    Ok(message.as_bytes().to_vec())
}

fn short(body: &[u8]) -> GuestError {
    GuestError::Nonsense(format!("it has {} bytes", body.len()))
}

/// A record's value as text.
fn value(record: &Record) -> Result<String, GuestError> {
    let (kind, size) = (record.value_type.get(), record.value_size.get());
    let number = || record.value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    match (kind, size) {
        (value_type::STRING | value_type::EXPAND_STRING, _) => {
            let units = <[zerocopy::little_endian::U16]>::ref_from_bytes(&record.value);
            text::read("its value", units.unwrap_or_default(), size)
        }
        (value_type::U32, 4) => Ok((number() & u64::from(u32::MAX)).to_string()),
        (value_type::U64 | value_type::U64_LINUX, 8) => Ok(number().to_string()),
        _ => Err(GuestError::Nonsense(format!("a value of type {kind} and {size} bytes"))),
    }
}

impl Service for Kvp {
    const NAME: &'static str = "kvp";
    const INTERFACE: Guid = Guid::parse("a9a0f4e7-5a45-4d96-b827-8a841e8c03e6");
    const INSTANCE: Guid = Guid::parse("242ff919-07db-4180-9c2e-b86cb68c8c55");
    const MESSAGE_TYPE: u16 = message_type::KVP;
    const VERSIONS: &'static [IcVersion] = &[IcVersion::new(3, 0), IcVersion::new(4, 0), VERSION_5];
    const BODY_MAX: usize = size_of::<IpTextMessage>();

    fn ready(&mut self, version: IcVersion) {
        self.version = version;
        self.queue.open();
    }

    fn closed(&mut self) {
        self.job = None;
        self.queue.close();
    }

    fn request(&mut self) -> Option<Vec<u8>> {
        // An enumeration that nobody waits for any more has no further message.
        self.job.take_if(|_| !self.queue.is_awaited());
        loop {
            let job = match self.job.take() {
                Some(job) => job,
                None => Job { request: self.queue.next()?, pairs: Vec::new() },
            };
            match self.body(&job) {
                Ok(body) => {
                    self.job = Some(job);
                    return Some(body);
                }
                Err(error) => self.queue.reply(Err(error)),
            }
        }
    }

    fn answer(&mut self, status: u32, body: &[u8]) {
        let Some(mut job) = self.job.take() else { return };
        match self.step(&mut job, status, body).transpose() {
            Some(outcome) => self.queue.reply(outcome),
            None => self.job = Some(job),
        }
    }

    fn wake(&self) -> Option<RawFd> {
        Some(self.queue.wake())
    }

    fn woken(&mut self) {
        self.queue.woken();
    }
}

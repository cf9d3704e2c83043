//! An open channel: requests in, answers out.
//!
//! Answers go straight from the packet's buffer into the ring. One that finds no room is copied and held, and then no
//! further request is read until it is sent: requests wait in the guest's ring, where they cost the host nothing.
//! What has been promised goes out before new requests are read: the answer that is held, then what is due of the
//! delayed ones, then a part of the running SOURCE.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::delays::Delays;
use super::device::LoopbackCounters;
use super::gpa::Named;
use super::protocol::{Header, MAX_DELAY, MAX_GPA_BYTES, MAX_SOURCE_COUNT, operation, source_byte, status};
use crate::guest_debug;
use crate::mem::GuestRam;
use crate::vmbus::channel::{Channel, ChannelError, ChannelWorker, Flow, Replies, Sent};
use crate::vmbus::ring::protocol::{PacketType, UNIT};
use crate::vmbus::ring::{Packet, PacketOut};

/// Packets of a SOURCE before other events have their turn.
const SOURCE_BATCH: u32 = 256;

/// An answer that cannot be sent now.
#[derive(Debug)]
pub(super) struct Answer {
    kind: PacketType,
    transaction_id: u64,
    payload: Vec<u8>,
}

impl Answer {
    pub fn new(packet: &PacketOut<'_>) -> Self {
        let PacketOut { kind, transaction_id, payload, .. } = *packet;
        Answer { kind, transaction_id, payload: payload.concat() }
    }

    #[cfg(test)]
    pub fn transaction_id(&self) -> u64 {
        self.transaction_id
    }

    fn send(&self, replies: &mut Replies<'_>) -> Result<Sent, ChannelError> {
        replies.send(&packet(self.kind, self.transaction_id, &[&self.payload]))
    }
}

/// A SOURCE that is not over.
#[derive(Clone, Copy, Debug)]
struct Source {
    request: Header,
    transaction_id: u64,
    completion_requested: bool,
    /// Number of the next packet.
    next: u32,
}

/// Serves one opening.
#[derive(Debug)]
pub struct LoopbackWorker {
    ram: GuestRam,
    /// Largest payload in either direction, bytes.
    max_payload: usize,
    counters: Arc<LoopbackCounters>,
    held: Option<Answer>,
    delays: Delays,
    source: Option<Source>,
    /// Data of the running SOURCE's packet.
    data: Vec<u8>,
    /// Bytes of guest memory that were touched since other events had their turn.
    touched: usize,
}

impl LoopbackWorker {
    pub(super) fn new(
        ram: GuestRam,
        max_payload: usize,
        counters: Arc<LoopbackCounters>,
    ) -> Result<Self, ChannelError> {
        Ok(LoopbackWorker {
            ram,
            max_payload,
            counters,
            held: None,
            delays: Delays::new()?,
            source: None,
            data: Vec::new(),
            touched: 0,
        })
    }
}

impl ChannelWorker for LoopbackWorker {
    fn sources(&self) -> Vec<RawFd> {
        vec![self.delays.timer()]
    }

    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        self.touched = 0;
        if self.send_promised(channel)? == Sent::Later {
            return Ok(self.delays.ignore()?);
        }
        channel.receive(|packet, replies| self.take(packet, replies))?;
        if self.held.is_some() {
            return Ok(self.delays.ignore()?);
        }
        if self.source.is_some() || self.touched >= MAX_GPA_BYTES {
            channel.call_again();
        }
        Ok(self.delays.watch(Instant::now())?)
    }

    /// The timer of the delayed answers.
    fn readable(&mut self, _: usize, channel: &mut Channel) -> Result<(), ChannelError> {
        self.doorbell(channel)
    }
}

/// A request's answer, before it becomes a packet. Its data is the packet's own.
enum Reply<'a> {
    None,
    Now(Header, &'a [u8]),
    After(Duration, Header, &'a [u8]),
}

impl LoopbackWorker {
    fn send_promised(&mut self, channel: &mut Channel) -> Result<Sent, ChannelError> {
        channel.send_batch(|replies| {
            if self.held.is_none() {
                self.held = self.delays.pop(Instant::now());
            }
            while let Some(answer) = &self.held {
                if answer.send(replies)? == Sent::Later {
                    return Ok(Sent::Later);
                }
                self.held = self.delays.pop(Instant::now());
            }
            self.send_source(replies)
        })
    }

    /// Sends some packets of the running SOURCE.
    fn send_source(&mut self, replies: &mut Replies<'_>) -> Result<Sent, ChannelError> {
        let Some(source) = &mut self.source else { return Ok(Sent::Yes) };
        let Source { request, transaction_id, .. } = *source;
        for _ in 0..SOURCE_BATCH {
            let done = Header { status: status::OK.into(), ..request };
            if source.next == request.count.get() {
                let completion = [done.as_bytes()];
                let completion = PacketOut::completion(transaction_id, &completion);
                if source.completion_requested && replies.send(&completion)? == Sent::Later {
                    return Ok(Sent::Later);
                }
                self.source = None;
                break;
            }
            let number = u64::from(source.next);
            for (i, byte) in self.data.iter_mut().enumerate() {
                *byte = source_byte(request.argument.get(), number, i);
            }
            let header = Header { argument: number.into(), ..done };
            let payload = [header.as_bytes(), &self.data];
            if replies.send(&PacketOut::in_band(transaction_id, &payload))? == Sent::Later {
                return Ok(Sent::Later);
            }
            source.next += 1;
        }
        Ok(Sent::Yes)
    }

    fn take(&mut self, request: &Packet<'_>, replies: &mut Replies<'_>) -> Result<Flow, ChannelError> {
        let kind = if request.completion_requested { PacketType::COMPLETION } else { PacketType::IN_BAND };
        match self.reply(request) {
            Reply::None => {}
            Reply::Now(header, data) => {
                let answer = [header.as_bytes(), data];
                let answer = packet(kind, request.transaction_id, &answer);
                if replies.send(&answer)? == Sent::Later {
                    self.held = Some(Answer::new(&answer));
                    return Ok(Flow::Pause);
                }
            }
            Reply::After(delay, header, data) => {
                let answer = Answer::new(&packet(kind, request.transaction_id, &[header.as_bytes(), data]));
                self.delays.push(Instant::now() + delay, answer);
            }
        }
        Ok(if self.touched >= MAX_GPA_BYTES { Flow::Pause } else { Flow::Continue })
    }

    fn reply<'a>(&mut self, request: &Packet<'a>) -> Reply<'a> {
        let known = matches!(request.kind, PacketType::IN_BAND | PacketType::GPA_DIRECT);
        let Some((header, data)) = Header::read_from_prefix(request.payload).ok().filter(|_| known) else {
            return self.drop(request);
        };
        match self.serve(request, &header, data) {
            Ok(reply) => reply,
            Err(status) => {
                self.counters.refuse_one();
                Reply::Now(Header { status: status.into(), ..header }, &[])
            }
        }
    }

    /// What is no request has no effect; whoever waits for a completion of it gets one.
    fn drop<'a>(&self, request: &Packet<'a>) -> Reply<'a> {
        self.counters.drop_one();
        guest_debug!("loopback: {:?} with {} bytes is no request", request.kind, request.payload.len());
        if !request.completion_requested {
            return Reply::None;
        }
        let mut header = Header::new_zeroed();
        header.status = status::BAD_REQUEST.into();
        Reply::Now(header, &[])
    }

    /// Does what a request asks for; an error is the status for the guest.
    fn serve<'a>(&mut self, request: &Packet<'a>, header: &Header, data: &'a [u8]) -> Result<Reply<'a>, u32> {
        let done = Header { status: status::OK.into(), ..*header };
        // Payloads come in whole units.
        let fits = request.payload.len() <= self.max_payload.next_multiple_of(UNIT as usize);
        let argument = header.argument.get();
        match header.operation.get() {
            operation::ECHO if fits => Ok(Reply::Now(done, data)),
            operation::DELAY if fits && argument <= MAX_DELAY && !self.delays.is_full() => {
                Ok(Reply::After(Duration::from_micros(argument), done, data))
            }
            operation::SINK if request.completion_requested => Ok(Reply::Now(done, &[])),
            operation::SINK => Ok(Reply::None),
            operation::SOURCE => self.start_source(request, header),
            operation::GPA_SUM => {
                let named = Named::by(request, &self.ram)?;
                let sum = named.sum().map_err(|_| status::NO_MEMORY)?;
                self.touched += named.bytes;
                Ok(Reply::Now(Header { argument: sum.into(), ..done }, &[]))
            }
            operation::GPA_INVERT => {
                let named = Named::by(request, &self.ram)?;
                named.invert().map_err(|_| status::NO_MEMORY)?;
                self.touched += named.bytes;
                Ok(Reply::Now(Header { argument: (named.bytes as u64).into(), ..done }, &[]))
            }
            operation::ECHO | operation::DELAY => Err(status::BAD_REQUEST),
            _ => Err(status::UNKNOWN),
        }
    }

    fn start_source<'a>(&mut self, packet: &Packet<'_>, request: &Header) -> Result<Reply<'a>, u32> {
        let length = request.length.get() as usize;
        let fits = length <= self.max_payload.saturating_sub(size_of::<Header>());
        if self.source.is_some() || !fits || request.count.get() > MAX_SOURCE_COUNT {
            return Err(status::BAD_REQUEST);
        }
        self.data.resize(length, 0);
        self.source = Some(Source {
            request: *request,
            transaction_id: packet.transaction_id,
            completion_requested: packet.completion_requested,
            next: 0,
        });
        Ok(Reply::None)
    }
}

fn packet<'a>(kind: PacketType, transaction_id: u64, payload: &'a [&'a [u8]]) -> PacketOut<'a> {
    PacketOut { kind, transaction_id, completion_requested: false, extension: &[], payload }
}

//! The guest's packets that one channel has taken and not yet completed: at most [`DEPTH`], each in a slot.
//!
//! A slot's number is the tag that the engine knows its request by. The packet itself lies in the slot and becomes its
//! own completion, so that whatever the guest put where nobody looks goes back to it. Completions are sent in the order
//! in which the requests ended; those for which there is no room in the ring stay in their slots. Nothing is allocated
//! once the table is there.

use std::collections::VecDeque;
use std::sync::Arc;

use zerocopy::{FromZeros, IntoBytes};

use super::controller::Scope;
use super::protocol::{Header, LONG_PACKET, SENSE_LEN, VstorPacket, operation, srb_status, status};
use super::scsi::{Command, Initiator, Reply, ScsiStatus, Sense, Unit};
use crate::disk::{Disk, IoError, Tag};
use crate::vmbus::channel::{ChannelError, Replies, Sent};
use crate::vmbus::ring::{Packet, PacketOut};

/// Requests of one channel at a time; Hyper-V's number, too. More stay in the guest's ring.
pub(super) const DEPTH: u16 = 256;

/// Names a request that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u16);

impl Slot {
    pub fn tag(self) -> Tag {
        Tag(self.0.into())
    }
}

impl SrbEnd {
    /// It makes no sense.
    pub const INVALID: SrbEnd = SrbEnd::Status(srb_status::INVALID_REQUEST);
}

/// How a SCSI request block ends.
#[derive(Debug)]
pub(super) enum SrbEnd {
    /// As its unit says.
    Reply(Reply),
    /// Without any unit's word: one of [`srb_status`].
    Status(u8),
    /// No such unit; what is said for it.
    Absent(Reply),
}

#[derive(Debug)]
struct Request {
    packet: VstorPacket,
    /// Bytes of it that the guest sent, and gets.
    len: usize,
    transaction_id: u64,
    completion_requested: bool,
    io: Option<Io>,
}

/// What the engine does for a request.
#[derive(Debug)]
struct Io {
    unit: Arc<dyn Unit>,
    disk: Arc<Disk>,
    /// Bytes of the guest's buffer.
    data_len: u32,
    /// Which of all the channel's requests.
    number: u64,
}

#[derive(Debug)]
pub(super) struct Requests {
    slots: Vec<Request>,
    free: Vec<Slot>,
    /// Completed, but not sent.
    ended: VecDeque<Slot>,
    /// Requests so far that went to the engine.
    started: u64,
}

impl Requests {
    pub fn new() -> Self {
        let empty = || Request {
            packet: VstorPacket::new_zeroed(),
            len: 0,
            transaction_id: 0,
            completion_requested: false,
            io: None,
        };
        Requests {
            slots: std::iter::repeat_with(empty).take(DEPTH.into()).collect(),
            free: (0..DEPTH).rev().map(Slot).collect(),
            ended: VecDeque::with_capacity(DEPTH.into()),
            started: 0,
        }
    }

    /// Whether no other packet can be taken.
    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Whether completions are to be sent.
    pub fn have_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Takes a packet, of which everything behind the largest that the protocol has is ignored; `None` if there is
    /// no room.
    pub fn take(&mut self, packet: &Packet<'_>) -> Option<(Slot, VstorPacket)> {
        let slot = self.free.pop()?;
        let request = self.get(slot)?;
        let (sent, _) = packet.payload.split_at(packet.payload.len().min(LONG_PACKET));
        request.packet = VstorPacket::new_zeroed();
        let (place, _) = request.packet.as_mut_bytes().split_at_mut(sent.len());
        place.copy_from_slice(sent);
        request.len = sent.len();
        request.transaction_id = packet.transaction_id;
        request.completion_requested = packet.completion_requested;
        Some((slot, request.packet))
    }

    /// Notes that the engine works for a request.
    pub fn start(&mut self, slot: Slot, unit: Arc<dyn Unit>, disk: Arc<Disk>, data_len: u32) {
        let number = self.started;
        self.started += 1;
        if let Some(request) = self.get(slot) {
            request.io = Some(Io { unit, disk, data_len, number });
        }
    }

    /// Completes what the engine has done.
    pub fn finish(&mut self, tag: Tag, outcome: Result<(), IoError>, initiator: Initiator) {
        let Some(slot) = u16::try_from(tag.0).ok().map(Slot) else { return };
        let Some(request) = self.get(slot) else { return };
        let Some(Io { unit, data_len, .. }) = request.io.take() else { return };
        let aborted = matches!(outcome, Err(IoError::Aborted));
        let srb = &request.packet.srb.short;
        let cdb = srb.cdb_or_sense.get(..srb.cdb_length.into()).unwrap_or_default();
        let reply = unit.finish(&Command { cdb, data_len, parameters: &[], initiator }, outcome);
        let end = if aborted { SrbEnd::Status(srb_status::ABORTED) } else { SrbEnd::Reply(reply) };
        self.complete_srb(slot, &end);
    }

    /// Completes a command.
    pub fn complete_srb(&mut self, slot: Slot, end: &SrbEnd) {
        if let Some(request) = self.get(slot) {
            request.end_srb(end);
        }
        self.complete(slot, status::SUCCESS);
    }

    /// Completes anything with this body.
    pub fn complete_with(&mut self, slot: Slot, packet: VstorPacket, status: u32) {
        if let Some(request) = self.get(slot) {
            request.packet = packet;
        }
        self.complete(slot, status);
    }

    /// Completes anything with the body that it came with.
    pub fn complete(&mut self, slot: Slot, status: u32) {
        let Some(request) = self.get(slot) else { return };
        request.packet.header =
            Header { operation: operation::COMPLETE_IO.into(), flags: 0.into(), status: status.into() };
        if request.completion_requested {
            self.ended.push_back(slot);
        } else {
            self.free.push(slot);
        }
    }

    /// Sends completions, as many as there is room for.
    pub fn send(&mut self, replies: &mut Replies<'_>) -> Result<Sent, ChannelError> {
        while let Some(&slot) = self.ended.front() {
            if let Some(request) = self.slots.get(usize::from(slot.0)) {
                let payload = request.packet.as_bytes().get(..request.len).unwrap_or_default();
                if replies.send(&PacketOut::completion(request.transaction_id, &[payload]))? == Sent::Later {
                    return Ok(Sent::Later);
                }
            }
            self.ended.pop_front();
            self.free.push(slot);
        }
        Ok(Sent::Yes)
    }

    /// The number that the next request of the engine will have.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Disks for which the engine works, within a scope.
    pub fn disks(&self, scope: Scope) -> impl Iterator<Item = &Disk> {
        self.running(scope).map(|io| &*io.disk)
    }

    /// Whether the engine still works for a request within a scope that came before the one of this number.
    pub fn runs(&self, scope: Scope, before: u64) -> bool {
        self.running(scope).any(|io| io.number < before)
    }

    fn get(&mut self, slot: Slot) -> Option<&mut Request> {
        self.slots.get_mut(usize::from(slot.0))
    }

    fn running(&self, scope: Scope) -> impl Iterator<Item = &Io> {
        let within = move |request: &&Request| scope.has(request.packet.srb.short.lun);
        self.slots.iter().filter(within).filter_map(|request| request.io.as_ref())
    }
}

impl Request {
    fn end_srb(&mut self, end: &SrbEnd) {
        let (srb_status, reply) = match end {
            SrbEnd::Status(status) => (*status, None),
            SrbEnd::Reply(reply) if reply.status == ScsiStatus::GOOD => (srb_status::SUCCESS, Some(reply)),
            SrbEnd::Reply(reply) => (srb_status::ERROR, Some(reply)),
            // Guests take INQUIRY for successful whatever they are told: its data says that nobody is there.
            SrbEnd::Absent(reply) if reply.status == ScsiStatus::GOOD => (srb_status::SUCCESS, Some(reply)),
            SrbEnd::Absent(reply) => (srb_status::INVALID_LUN, Some(reply)),
        };
        let srb = &mut self.packet.srb.short;
        let sense = reply.and_then(|reply| reply.sense.as_ref()).map(Sense::to_bytes);
        let room = usize::from(srb.sense_length).min(SENSE_LEN);
        let sense = sense.as_ref().and_then(|sense| sense.get(..sense.len().min(room))).unwrap_or_default();
        srb.cdb_or_sense = [0; SENSE_LEN];
        if let Some(place) = srb.cdb_or_sense.get_mut(..sense.len()) {
            place.copy_from_slice(sense);
        }
        srb.srb_status = srb_status | if sense.is_empty() { 0 } else { srb_status::AUTOSENSE_VALID };
        srb.scsi_status = reply.map_or(ScsiStatus::GOOD, |reply| reply.status).0;
        #[expect(clippy::cast_possible_truncation, reason = "at most 20")]
        let sense_length = sense.len() as u8;
        srb.sense_length = sense_length;
        srb.data_transfer_length = reply.map_or(0, |reply| reply.moved).into();
    }
}

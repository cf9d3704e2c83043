//! An open channel of a controller: packets in, commands to their units, bytes through the engine, completions out.
//!
//! One turn: completions that wait are sent, packets are taken, what they ask for is handed to the engine in one batch,
//! what has ended meanwhile becomes completions. Turns follow each other for as long as each completes something: a
//! guest that answers a completion with its next request need not ring, and nothing spins while the disk is slow. All
//! completions of a turn are one write of the ring's index and at most one interrupt.
//!
//! A reset is answered when every channel of the controller has let go of what it concerns; until then this channel
//! takes no packets.

use std::os::fd::RawFd;
use std::sync::Arc;

use zerocopy::{FromZeros, IntoBytes};

use super::commands::{Commands, Started};
use super::controller::{Drain, Member, Scope};
use super::initialisation::{Effect, Initialisation};
use super::protocol::{ShortSrb, VstorPacket, operation, status};
use super::requests::{Requests, Slot, SrbEnd};
use super::scsi::Reset;
use crate::disk::Queue;
use crate::guest_debug;
use crate::mem::GuestRam;
use crate::vmbus::channel::{
    Channel, ChannelError, ChannelWorker, Flow, Opening, Replies, Sent, SubChannels,
};
use crate::vmbus::ring::{Packet, PacketOut};

/// The controller's mailbox among the descriptors; the engine's follow.
const MAILBOX: usize = 0;
/// Turns before other events have theirs.
const TURNS: usize = 16;

/// Serves one opening of one channel.
#[derive(Debug)]
pub struct StorageWorker {
    // The engine goes first: then nothing is in flight, and the rest may go.
    queue: Queue,
    requests: Requests,
    role: Role,
    commands: Commands,
    ram: GuestRam,
    /// A reset that waits for all channels.
    reset: Option<(Slot, Scope)>,
    /// Orders to let go, and the number of the first request that they do not concern.
    drains: Vec<(Arc<Drain>, u64)>,
    /// The guest is to be told that units have come or gone.
    rescan: bool,
    member: Member,
}

/// What a channel is to its controller.
#[derive(Debug)]
enum Role {
    First { initialisation: Initialisation, sub_channels: SubChannels },
    Sub,
}

impl StorageWorker {
    pub(super) fn new(opening: &Opening, member: Member, queue: Queue, most_sub_channels: u16) -> Self {
        let role = match opening.sub_channel {
            0 => {
                member.controller.begin();
                let initialisation = Initialisation::new(most_sub_channels);
                Role::First { initialisation, sub_channels: opening.sub_channels.clone() }
            }
            _ => Role::Sub,
        };
        StorageWorker {
            queue,
            requests: Requests::new(),
            role,
            commands: Commands::new(member.controller.initiator(), opening.ram.clone()),
            ram: opening.ram.clone(),
            reset: None,
            drains: Vec::new(),
            rescan: false,
            member,
        }
    }
}

impl ChannelWorker for StorageWorker {
    fn sources(&self) -> Vec<RawFd> {
        [vec![self.member.wake_fd()], self.queue.wake_fds()].concat()
    }

    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        for _ in 0..TURNS {
            if self.send(channel)? == Sent::Later {
                // The guest rings when there is room.
                return Ok(());
            }
            self.take(channel)?;
            self.reap();
            if !self.requests.have_ended() {
                return Ok(());
            }
        }
        channel.call_again();
        Ok(())
    }

    fn readable(&mut self, source: usize, channel: &mut Channel) -> Result<(), ChannelError> {
        if source == MAILBOX {
            self.heed_orders();
        }
        self.reap();
        self.doorbell(channel)
    }

    fn stop(&mut self) {
        if let Err(error) = self.queue.drain() {
            log::error!("A storage channel cannot wait for its requests: {error}");
        }
    }
}

impl StorageWorker {
    fn send(&mut self, channel: &mut Channel) -> Result<Sent, ChannelError> {
        if !self.rescan && !self.requests.have_ended() {
            return Ok(Sent::Yes);
        }
        channel.send_batch(|replies| {
            if self.requests.send(replies)? == Sent::Later {
                return Ok(Sent::Later);
            }
            if self.rescan && self.is_ready() {
                let mut notice = VstorPacket::new_zeroed();
                notice.header.operation = operation::ENUMERATE_BUS.into();
                let size = self.member.controller.packet_size();
                let payload = notice.as_bytes().get(..size).unwrap_or_default();
                if replies.send(&PacketOut::in_band(0, &[payload]))? == Sent::Later {
                    return Ok(Sent::Later);
                }
            }
            // A guest that is not ready will look for its units anyway; and one notice is enough.
            self.rescan = false;
            Ok(Sent::Yes)
        })
    }

    /// Takes packets until there are none, or no more can be taken now.
    fn take(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        self.commands.units.renew(&self.member.controller);
        if self.is_busy() {
            return Ok(());
        }
        channel.receive(|packet, replies| {
            self.take_packet(packet, replies);
            Ok(if self.is_busy() { Flow::Pause } else { Flow::Continue })
        })
    }

    /// Whether packets have to stay in the ring.
    fn is_busy(&self) -> bool {
        self.requests.is_full() || self.reset.is_some()
    }

    /// Hands what was submitted to the kernel, and completes what has ended by now.
    fn reap(&mut self) {
        self.queue.commit();
        let (requests, initiator) = (&mut self.requests, self.member.controller.initiator());
        self.queue.reap(|tag, outcome| requests.finish(tag, outcome, initiator));
        if !self.drains.is_empty() {
            let requests = &self.requests;
            self.drains.retain(|(drain, before)| requests.runs(drain.scope, *before));
        }
    }

    fn heed_orders(&mut self) {
        let orders = self.member.take_orders();
        self.commands.units.renew(&self.member.controller);
        for drain in orders.drains {
            for disk in self.requests.disks(drain.scope) {
                self.queue.abort(disk);
            }
            self.drains.push((drain, self.requests.started()));
        }
        // One channel tells the guest.
        self.rescan |= orders.rescan && matches!(self.role, Role::First { .. });
        if orders.drained
            && let Some((slot, scope)) = self.reset.take()
        {
            self.member.controller.reset(scope, Reset::Unit);
            self.requests.complete(slot, status::SUCCESS);
        }
    }

    fn is_ready(&self) -> bool {
        match &self.role {
            Role::First { initialisation, .. } => initialisation.is_ready(),
            Role::Sub => self.member.controller.is_spoken_to(),
        }
    }

    fn take_packet(&mut self, packet: &Packet<'_>, replies: &Replies<'_>) {
        let Some((slot, request)) = self.requests.take(packet) else { return };
        if packet.payload.len() < self.member.controller.packet_size() {
            guest_debug!("storage: a packet of {} bytes is too short", packet.payload.len());
            return self.requests.complete(slot, status::INVALID_PARAMETER);
        }
        match request.header.operation.get() {
            operation::EXECUTE_SRB
            | operation::RESET_LUN
            | operation::RESET_BUS
            | operation::RESET_ADAPTER
                if !self.is_ready() =>
            {
                self.requests.complete(slot, status::INVALID_DEVICE_STATE);
            }
            operation::EXECUTE_SRB => self.execute(slot, &request.srb.short, packet),
            operation::RESET_LUN | operation::RESET_BUS | operation::RESET_ADAPTER => {
                self.start_reset(slot, &request);
            }
            _ => self.initialise(slot, request, replies),
        }
    }

    fn execute(&mut self, slot: Slot, srb: &ShortSrb, packet: &Packet<'_>) {
        match self.commands.start(srb, packet) {
            Ok(Started { unit, disk, request, data }) => {
                let moves = usize::try_from(request.moves()).unwrap_or(usize::MAX);
                let memory = data.pieces(&self.ram, moves);
                match self.queue.submit(slot.tag(), &disk, request, memory) {
                    Ok(()) => self.requests.start(slot, unit, disk, data.len),
                    Err(_) => self.requests.complete_srb(slot, &SrbEnd::INVALID),
                }
            }
            Err(end) => self.requests.complete_srb(slot, &end),
        }
    }

    fn initialise(&mut self, slot: Slot, mut request: VstorPacket, replies: &Replies<'_>) {
        let (status, effect) = match &mut self.role {
            Role::First { initialisation, .. } => initialisation.take(&mut request),
            Role::Sub => (status::INVALID_DEVICE_STATE, Effect::None),
        };
        self.requests.complete_with(slot, request, status);
        match (effect, &self.role) {
            (Effect::Speak(version), _) => {
                self.member.controller.speak(version);
                replies.agreed(version.numbers());
            }
            (Effect::SubChannels(count), Role::First { sub_channels, .. }) => sub_channels.offer(count),
            _ => {}
        }
    }

    fn start_reset(&mut self, slot: Slot, request: &VstorPacket) {
        let srb = &request.srb.short;
        let scope = match request.header.operation.get() {
            operation::RESET_LUN if (srb.path, srb.target) == (0, 0) => Scope::Unit(srb.lun),
            operation::RESET_BUS if srb.path == 0 => Scope::All,
            operation::RESET_ADAPTER => Scope::All,
            // There is nothing that could be reset.
            _ => return self.requests.complete(slot, status::SUCCESS),
        };
        self.reset = Some((slot, scope));
        self.member.drain(scope);
    }
}

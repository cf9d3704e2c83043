//! A bus that can be watched: control messages and packets, recorded in a pcapng file for Wireshark.
//!
//! [`TraceFile`] owns the file and the one thread that writes it. The bus and its open channels hold a [`Tracer`]
//! and a [`ChannelTrace`]; a bus that is not traced holds `None`, and that branch is all that tracing costs it.
//!
//! Nobody who records ever waits for the file: a record is encoded at once into a queue of [`QUEUE_SIZE`] bytes,
//! with the time at which it got there, and the thread writes what has gathered. What does not fit is dropped and
//! counted: in the next packet of its interface (`epb_dropcount`, Wireshark's `frame.drop_count`) and in the
//! statistics at the end (`isb_ifdrop`). The last bytes of the queue are for control messages, so that a flood of
//! packets does not push them out.
//!
//! The file has an interface for control messages and one for each device whose packets are recorded; what is in
//! front of each record is in [`protocol`]. Control messages of the guest are recorded when they are accepted, the
//! host's when they are queued for their virtual processor; packets when the host has read or written them.

mod pcapng;
pub mod protocol;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use zerocopy::{FromZeros, IntoBytes};

use super::channel::{Offer, OfferFlags};
use super::ring::protocol::{DESCRIPTOR_SIZE, FLAG_COMPLETION_REQUESTED, PacketDescriptor, UNIT};
use super::ring::{Packet, PacketOut};
use super::server::OpenRequest;
use protocol::{Direction, FLAG_PIPE, HEADER_SIZE, Kind, TraceHeader, VERSION};
use queue::{CONTROL, Queue};

pub use queue::QUEUE_SIZE;

/// Most bytes that are kept of one packet, its descriptor included: above all control structures of devices.
pub const SNAP_LEN: usize = 4096;

/// Channels whose packets are recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TracedPackets {
    /// No packets, only control messages.
    #[default]
    None,
    /// Those of devices with these names, see [`Offer::name`].
    Of(BTreeSet<String>),
    /// All.
    All,
}

/// The file of a trace, and the thread that writes it. Dropping it completes the file.
#[derive(Debug)]
pub struct TraceFile {
    tracer: Tracer,
    writer: Option<JoinHandle<()>>,
}

impl TraceFile {
    /// Starts a trace of at most `limit` bytes.
    ///
    /// `out` is written from one thread, whole blocks at a time, as they come: it may be a pipe to Wireshark.
    ///
    /// # Errors
    /// When the host gives no thread.
    pub fn start(out: impl Write + Send + 'static, packets: TracedPackets, limit: u64) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(limit));
        let writing = Arc::clone(&queue);
        let writer = Builder::new().name("trace".to_owned()).spawn(move || writing.write_out(out))?;
        Ok(TraceFile { tracer: Tracer { queue, packets: Arc::new(packets) }, writer: Some(writer) })
    }

    /// For the bus.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        self.tracer.queue.end();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            log::error!("The trace is not complete: its thread panicked");
        }
    }
}

/// Records what goes over a bus. Any thread may call it; no call waits for the file.
#[derive(Clone, Debug)]
pub struct Tracer {
    queue: Arc<Queue>,
    packets: Arc<TracedPackets>,
}

impl Tracer {
    /// Records a control message of the guest.
    pub fn from_guest(&self, connection_id: u32, message: &[u8]) {
        let mut header = header(Kind::Message, Direction::FromGuest);
        header.connection_id = connection_id.into();
        self.queue.record(CONTROL, &header, [message].into_iter());
    }

    /// Records a control message to the guest.
    pub fn to_guest(&self, vp: u32, sint: u8, message: &[u8]) {
        let mut header = header(Kind::Message, Direction::ToGuest);
        header.vp = vp.into();
        header.sint = sint;
        self.queue.record(CONTROL, &header, [message].into_iter());
    }

    /// Records a sentence for whoever reads the trace.
    pub fn note(&self, text: &str) {
        self.queue.record(CONTROL, &header(Kind::Note, Direction::ToGuest), [text.as_bytes()].into_iter());
    }

    /// What records the packets of a channel that opens; `None` if nobody asked for them.
    pub(super) fn channel(&self, offer: &Offer, request: &OpenRequest) -> Option<ChannelTrace> {
        let wanted = match &*self.packets {
            TracedPackets::None => false,
            TracedPackets::Of(names) => names.contains(&offer.name),
            TracedPackets::All => true,
        };
        if !wanted {
            return None;
        }
        let Offer { interface, instance, .. } = offer;
        let about = format!("interface {interface}, instance {instance}");
        let mut header = header(Kind::Packet, Direction::FromGuest);
        if offer.flags.contains(OfferFlags::NAMED_PIPE_MODE) {
            header.flags = FLAG_PIPE.into();
        }
        header.channel = request.channel.0.into();
        header.connection_id = request.connection_id.into();
        header.interface = *interface;
        let interface = self.queue.interface(&offer.label(), &about)?;
        Some(ChannelTrace { queue: Arc::clone(&self.queue), interface, header })
    }
}

/// Records the packets of one open channel.
#[derive(Debug)]
pub struct ChannelTrace {
    queue: Arc<Queue>,
    interface: u32,
    /// What all records have in common.
    header: TraceHeader,
}

impl ChannelTrace {
    /// Records a packet of the guest.
    pub(super) fn received(&self, packet: &Packet<'_>) {
        let &Packet { kind, transaction_id, completion_requested, extension, payload } = packet;
        let shape = PacketOut { kind, transaction_id, completion_requested, extension, payload: &[payload] };
        self.record(Direction::FromGuest, &shape);
    }

    /// Records a packet to the guest.
    pub(super) fn sent(&self, packet: &PacketOut<'_>) {
        self.record(Direction::ToGuest, packet);
    }

    fn record(&self, direction: Direction, packet: &PacketOut<'_>) {
        let mut header = self.header;
        header.direction = direction as u8;
        let payload_len: usize = packet.payload.iter().map(|piece| piece.len()).sum();
        let descriptor = descriptor(packet, payload_len);
        let pieces = [descriptor.as_bytes(), packet.extension, padding(packet.extension.len())]
            .into_iter()
            .chain(packet.payload.iter().copied())
            .chain([padding(payload_len)]);
        self.queue.record(self.interface, &header, pieces);
    }
}

fn header(kind: Kind, direction: Direction) -> TraceHeader {
    let mut header = TraceHeader::new_zeroed();
    header.version = VERSION;
    #[expect(clippy::cast_possible_truncation, reason = "36")]
    let length = HEADER_SIZE as u8;
    header.length = length;
    header.kind = kind as u8;
    header.direction = direction as u8;
    header
}

/// The descriptor that such a packet has in the ring. Flags beyond those that the ring knows are not in it.
fn descriptor(packet: &PacketOut<'_>, payload_len: usize) -> PacketDescriptor {
    let units = |bytes: usize| u16::try_from(bytes.div_ceil(UNIT as usize)).unwrap_or(u16::MAX);
    let data_offset8 = units(DESCRIPTOR_SIZE as usize + packet.extension.len());
    PacketDescriptor {
        kind: packet.kind.0.into(),
        data_offset8: data_offset8.into(),
        length8: data_offset8.saturating_add(units(payload_len)).into(),
        flags: if packet.completion_requested { FLAG_COMPLETION_REQUESTED } else { 0 }.into(),
        transaction_id: packet.transaction_id.into(),
    }
}

/// Zeros that fill a piece of `len` bytes up to a multiple of 8.
fn padding(len: usize) -> &'static [u8] {
    const ZEROS: &[u8] = &[0; UNIT as usize];
    ZEROS.split_at(len.wrapping_neg() % UNIT as usize).0
}

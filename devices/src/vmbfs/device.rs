//! The device: answers what is asked, one request after the other.
//!
//! A guest may ask anything at any time; what makes no sense gets the failure that its request has for it. Requests
//! that have none are left alone.

use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{
    FileInfoResponse, INTERFACE, InfoFlags, MESSAGE_MAX, READ_MAX, ReadFile, ReadFileRdmaResponse,
    ReadFileResponse, Status, VERSION, VersionRequest, VersionResponse, message_type, version_status,
};
use super::volume::{Entry, Volume, names};
use crate::guid::Guid;
use crate::vmbus::channel::{
    Channel, ChannelError, ChannelWorker, Flow, Offer, Opening, Replies, RingNeeds, Sent, VmbusDevice,
};
use crate::vmbus::pipe;
use crate::vmbus::ring::protocol::{PacketType, PipeHeader};
use crate::vmbus::ring::{Packet, PacketOut};
use crate::vmbus::send_queue::SendQueue;
use crate::{guest_debug, guest_info, guest_warn};

/// The device. Each opening reads a volume of its own.
#[derive(Debug)]
pub struct Vmbfs<V> {
    name: &'static str,
    instance: Guid,
    volume: V,
}

impl<V> Vmbfs<V> {
    /// An instance with its files; `name` is the channel's in tables.
    #[must_use]
    pub fn new(name: &'static str, instance: Guid, volume: V) -> Self {
        Vmbfs { name, instance, volume }
    }
}

impl<V: Volume> VmbusDevice for Vmbfs<V> {
    type Worker = VmbfsWorker<V>;

    fn offer(&self) -> Offer {
        Offer::message_pipe(self.name, INTERFACE, self.instance)
    }

    fn ring_needs(&self, _: &Opening) -> RingNeeds {
        RingNeeds::of_payload(size_of::<PipeHeader>() + MESSAGE_MAX)
    }

    fn open(&mut self, _: &Opening) -> Result<VmbfsWorker<V>, ChannelError> {
        Ok(VmbfsWorker {
            name: self.name,
            volume: self.volume.clone(),
            ready: false,
            queue: SendQueue::default(),
            buffer: vec![0; READ_MAX],
        })
    }

    fn closed(&mut self, _: Option<VmbfsWorker<V>>) {}
}

/// The device while its channel is open.
#[derive(Debug)]
pub struct VmbfsWorker<V> {
    name: &'static str,
    volume: V,
    /// A version was agreed on.
    ready: bool,
    queue: SendQueue,
    buffer: Vec<u8>,
}

impl<V: Volume> ChannelWorker for VmbfsWorker<V> {
    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        if channel.send_batch(|replies| self.queue.flush(replies))? == Sent::Later {
            return Ok(());
        }
        channel.receive(|packet, replies| self.take(packet, replies))
    }
}

impl<V: Volume> VmbfsWorker<V> {
    fn take(&mut self, packet: &Packet<'_>, replies: &mut Replies<'_>) -> Result<Flow, ChannelError> {
        match pipe::message(packet) {
            Some((message_type::VERSION_REQUEST, body)) => self.negotiate(body, replies)?,
            Some((message_type::GET_FILE_INFO, path)) => {
                let response = self.info(path);
                self.answer(message_type::GET_FILE_INFO_RESPONSE, response.as_bytes(), 0, replies)?;
            }
            Some((message_type::READ_FILE, body)) => {
                let (status, read) =
                    self.read(body).map_or_else(|status| (status, 0), |read| (Status::Success, read));
                let response = ReadFileResponse { status: (status as u32).into() };
                self.answer(message_type::READ_FILE_RESPONSE, response.as_bytes(), read, replies)?;
            }
            Some((message_type::READ_FILE_RDMA, _)) => {
                guest_warn!(
                    "{}: the guest reads into its memory, which no file here is said to do",
                    self.name
                );
                let response =
                    ReadFileRdmaResponse { status: (Status::Error as u32).into(), count: 0.into() };
                self.answer(message_type::READ_FILE_RDMA_RESPONSE, response.as_bytes(), 0, replies)?;
            }
            _ if packet.kind == PacketType::COMPLETION => {}
            message => {
                let kind = message.map(|(kind, _)| kind);
                guest_warn!("{}: {:?} with message {kind:?} is left alone", self.name, packet.kind);
            }
        }
        self.queue.complete(replies, packet)
    }

    /// Sends an answer and so many bytes of the buffer. Whether or not it waits: nothing more is read behind it.
    fn answer(
        &mut self,
        kind: u32,
        response: &[u8],
        read: usize,
        replies: &mut Replies<'_>,
    ) -> Result<(), ChannelError> {
        let data = self.buffer.get(..read).unwrap_or_default();
        let head = pipe::head(kind, 0, response.len() + data.len());
        let _ = self.queue.send(replies, &PacketOut::in_band(0, &[head.as_bytes(), response, data]))?;
        Ok(())
    }

    fn negotiate(&mut self, body: &[u8], replies: &mut Replies<'_>) -> Result<(), ChannelError> {
        let version = VersionRequest::read_from_prefix(body).ok().map(|(request, _)| request.version.get());
        self.ready = version == Some(VERSION);
        if self.ready {
            replies.agreed(VERSION);
            guest_info!("{}: version {}.{}", self.name, VERSION >> 16, VERSION & 0xffff);
        } else {
            guest_warn!("{}: the guest asks for version {version:#x?}", self.name);
        }
        let status = if self.ready { version_status::SUPPORTED } else { version_status::UNSUPPORTED };
        let response = VersionResponse { status: status.into() };
        self.answer(message_type::VERSION_RESPONSE, response.as_bytes(), 0, replies)
    }

    fn info(&mut self, path: &[u8]) -> FileInfoResponse {
        let (status, flags, size) = match self.entry(path) {
            Ok(Entry::Directory) => (Status::Success, InfoFlags::DIRECTORY, 0),
            Ok(Entry::File(size)) => (Status::Success, InfoFlags::empty(), size),
            Err(status) => (status, InfoFlags::empty(), 0),
        };
        FileInfoResponse { status: (status as u32).into(), flags: flags.bits().into(), size: size.into() }
    }

    fn entry(&mut self, path: &[u8]) -> Result<Entry, Status> {
        let path = self.path(path)?;
        let entry = self.volume.entry(&path);
        guest_debug!("{}: the guest asks for {path:?}: {entry:?}", self.name);
        Ok(entry?)
    }

    /// Reads into the buffer; how many bytes. The guest may ask for more than there are, or than a message carries.
    fn read(&mut self, body: &[u8]) -> Result<usize, Status> {
        let (request, path) = ReadFile::read_from_prefix(body).map_err(|_| Status::Error)?;
        let path = self.path(path)?;
        let count = usize::try_from(request.count.get()).unwrap_or(READ_MAX).min(READ_MAX);
        let buffer = self.buffer.get_mut(..count).unwrap_or_default();
        match self.volume.read(&path, request.offset.get(), buffer)? {
            0 if count > 0 => Err(Status::EndOfFile),
            read => Ok(read),
        }
    }

    fn path(&self, path: &[u8]) -> Result<Vec<String>, Status> {
        if !self.ready {
            guest_warn!("{}: the guest asks for a file before it asks for a version", self.name);
            return Err(Status::Error);
        }
        names(path).ok_or(Status::NotFound)
    }
}

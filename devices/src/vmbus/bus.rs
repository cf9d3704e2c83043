//! The bus: holds the control plane, the devices and their open channels together.
//!
//! Runs on the control loop; the only thing of it that other threads call is [`MessagePort`]. Guest messages are
//! taken one at a time, and only while nothing that the host owes the guest is held up: a guest that does not
//! read its answers is not listened to, so neither side's queue grows past its bound.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::channel::{Offer, Opening, SubChannels, VmbusDevice};
use super::contacts::{Contact, Contacts};
use super::protocol::{Status, Version};
use super::reports::{Report, Reports};
use super::server::{
    Action, ChannelInfo, HostMessage, MESSAGE_PORT, MULTI_CLIENT_PORT, OfferError, OfferId, OpenRequest,
    Server,
};
use super::slot::{AnySlot, Slot};
use super::synic::{PostError, Synic};
use super::table::ChannelRow;
use super::trace::{ChannelTrace, Tracer};
use crate::hvdef::{HvStatus, MESSAGE_PAYLOAD_MAX, MESSAGE_TYPE_VMBUS};
use crate::mem::GuestRam;
use crate::{guest_debug, guest_warn};

/// Guest messages that wait for the control loop; the next is answered INSUFFICIENT_BUFFERS and comes again.
/// Hyper-V's ports have as many buffers.
pub const INBOX_LEN: usize = 16;

/// Why a device cannot join the bus.
#[derive(Debug, Error)]
pub enum BusError {
    /// The control plane refuses the offer.
    #[error("The device cannot be offered")]
    Offer(#[from] OfferError),
    /// The host has no more descriptors.
    #[error("The bus has no event descriptor")]
    Host(#[from] io::Error),
}

#[derive(Debug)]
struct GuestMessage {
    connection_id: u32,
    guest_os_id: u64,
    payload: [u8; MESSAGE_PAYLOAD_MAX],
    len: usize,
}

/// What other threads leave for the control loop.
#[derive(Debug)]
struct Inbox {
    messages: Mutex<VecDeque<GuestMessage>>,
    /// Who the guest said last that it is.
    guest_os_id: AtomicU64,
    wake: Arc<EventFd>,
    /// Where the bus is recorded, if it is.
    tracer: OnceLock<Tracer>,
}

/// The guest's way to the bus; virtual processors call it from their threads.
#[derive(Clone, Debug)]
pub struct MessagePort(Arc<Inbox>);

impl MessagePort {
    /// Tells who the guest says that it is (its GUEST_OS_ID), before it posts.
    pub fn introduce(&self, guest_os_id: u64) {
        self.0.guest_os_id.store(guest_os_id, Ordering::Relaxed);
    }

    /// The guest's HvPostMessage.
    #[must_use]
    pub fn post(&self, connection_id: u32, message_type: u32, payload: &[u8]) -> HvStatus {
        if !matches!(connection_id, MESSAGE_PORT | MULTI_CLIENT_PORT) {
            return HvStatus::InvalidConnectionId;
        }
        let mut message = GuestMessage {
            connection_id,
            guest_os_id: self.0.guest_os_id.load(Ordering::Relaxed),
            payload: [0; MESSAGE_PAYLOAD_MAX],
            len: payload.len(),
        };
        match message.payload.get_mut(..payload.len()) {
            Some(place) if message_type == MESSAGE_TYPE_VMBUS => place.copy_from_slice(payload),
            _ => return HvStatus::InvalidParameter,
        }
        let mut messages = self.0.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if Server::starts_over(payload) {
            // What came before is void. A crashed guest's messages may wait here for ever, and must not keep its
            // crash kernel out.
            messages.clear();
        } else if messages.len() >= INBOX_LEN {
            return HvStatus::InsufficientBuffers;
        }
        if let Some(tracer) = self.0.tracer.get() {
            // Under the lock, so that no answer is recorded before its request.
            tracer.from_guest(connection_id, payload);
        }
        messages.push_back(message);
        // Fails only when the counter is at its end, and then the control loop is awake already.
        let _ = self.0.wake.write(1);
        HvStatus::Success
    }
}

/// The bus and everything on it.
#[derive(Debug)]
pub struct Bus {
    server: Server,
    slots: BTreeMap<OfferId, Box<dyn AnySlot>>,
    synic: Arc<dyn Synic>,
    ram: GuestRam,
    inbox: Arc<Inbox>,
    /// What channels' threads have to say.
    reports: Reports,
    /// Version of the latest connection.
    version: Option<Version>,
    contacts: Contacts,
}

impl Bus {
    /// A bus without devices.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn new(ram: GuestRam, synic: Arc<dyn Synic>) -> Result<Self, BusError> {
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        synic.notify_drained(wake.try_clone()?);
        Ok(Bus {
            server: Server::new(synic.vp_count()),
            slots: BTreeMap::new(),
            synic,
            ram,
            reports: Reports::new(Arc::clone(&wake)),
            inbox: Arc::new(Inbox {
                messages: Mutex::default(),
                guest_os_id: AtomicU64::new(0),
                wake,
                tracer: OnceLock::new(),
            }),
            version: None,
            contacts: Contacts::default(),
        })
    }

    /// Records what goes over the bus from now on; of channels, those that open from now on. Works once.
    pub fn trace(&self, tracer: Tracer) {
        if self.inbox.tracer.set(tracer).is_err() {
            log::error!("The bus is traced already");
        }
    }

    /// The guest's way in.
    #[must_use]
    pub fn port(&self) -> MessagePort {
        MessagePort(Arc::clone(&self.inbox))
    }

    /// Adds a device; a guest that is connected is offered it at once.
    ///
    /// # Errors
    /// When the same device is there already, or there are too many.
    pub fn add<D: VmbusDevice + 'static>(&mut self, device: D) -> Result<OfferId, BusError> {
        let offer = device.offer();
        let name = offer.name.clone();
        let id = self.server.offer(offer)?;
        self.slots.insert(id, Box::new(Slot::new(name, device)));
        self.wake();
        Ok(id)
    }

    /// Takes a device from the guest. Its channel closes; the device is dropped then.
    pub fn remove(&mut self, id: OfferId) {
        if self.slots.contains_key(&id) {
            self.server.rescind(id);
            self.wake();
        }
    }

    /// The device's id on the bus, by the name in its offer.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<OfferId> {
        self.slots.iter().find(|(_, slot)| slot.name() == name).map(|(id, _)| *id)
    }

    /// The control plane, for those who show its state.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Version of the latest connection.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Who made contact, the oldest first.
    #[must_use]
    pub fn contacts(&self) -> &Contacts {
        &self.contacts
    }

    /// What every channel looks like: the devices in the order in which they came, each with its sub-channels.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelRow> {
        let row = |(info, offer): (ChannelInfo, &Offer)| {
            let mut row = ChannelRow::new(&info, offer, self.version);
            if let Some(slot) = self.slots.get(&info.offer) {
                slot.count(&*self.synic, &mut row);
            }
            row
        };
        let mut channels: Vec<_> = self.server.channels().collect();
        let mut devices = HashMap::new();
        for (info, offer) in &channels {
            devices.entry((offer.interface, offer.instance)).or_insert(info.offer);
        }
        channels.sort_by_key(|(_, offer)| {
            (devices.get(&(offer.interface, offer.instance)).copied(), offer.sub_channel)
        });
        channels.into_iter().map(row).collect()
    }

    /// Stops every channel and waits for the threads, for a machine that ends. [`Bus::channels`] has the final
    /// counts then; channels that the guest had open count as open.
    pub fn shut_down(&mut self) {
        for slot in self.slots.values_mut() {
            slot.stop();
        }
        for slot in self.slots.values_mut() {
            slot.join(&*self.synic);
        }
    }

    /// Does what can be done without waiting, though never more than two inboxes full of messages: a guest that asks
    /// without end must not keep everybody else from the control loop. Runs when [`Bus::wake_fd`] is readable, which it
    /// still is if there is more.
    pub fn process(&mut self) {
        let _ = self.inbox.wake.read();
        for _ in 0..2 * INBOX_LEN {
            self.heed_reports();
            self.act();
            let Some(message) = self.next_message() else { return };
            let bytes = message.payload.get(..message.len).unwrap_or_default();
            self.server.handle(message.connection_id, bytes);
            if let Some(contact) = self.server.take_contact() {
                self.contacts.add(Contact { guest_os_id: message.guest_os_id, ..contact });
            }
            self.version = self.server.connection().map(|connection| connection.version).or(self.version);
        }
        self.wake();
    }

    /// Readable when [`Bus::process`] has something to do.
    #[must_use]
    pub fn wake_fd(&self) -> RawFd {
        self.inbox.wake.as_raw_fd()
    }

    /// The guest's next message, if the control plane should see it now.
    fn next_message(&self) -> Option<GuestMessage> {
        let mut messages = self.inbox.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let welcome = messages.front().is_some_and(|message| {
            let bytes = message.payload.get(..message.len).unwrap_or_default();
            self.server.ready() || Server::starts_over(bytes)
        });
        if welcome { messages.pop_front() } else { None }
    }

    fn wake(&self) {
        // Fails only when the counter is at its end, and then the control loop is awake already.
        let _ = self.inbox.wake.write(1);
    }

    fn heed_reports(&mut self) {
        while let Some((id, report)) = self.reports.next() {
            match report {
                Report::Finished => self.reap(id),
                Report::WantsSubChannels { opening, count } => self.add_sub_channels(id, opening, count),
            }
        }
    }

    /// Takes back what an ended thread held, and tells the control plane.
    fn reap(&mut self, id: OfferId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        // A thread that ended by itself leaves the channel open but dead, until the guest closes it.
        if slot.join(&*self.synic) {
            self.server.closed(id);
        }
    }

    fn add_sub_channels(&mut self, primary: OfferId, opening: u64, count: u16) {
        for id in self.server.offer_sub_channels(primary, opening, count) {
            let label = self.offer_of(id).map(Offer::label).unwrap_or_default();
            if let Some(slot) = self.slots.get(&primary).map(|slot| slot.another(label)) {
                self.slots.insert(id, slot);
            }
        }
    }

    /// Carries out the control plane's actions until there are none, or a message must wait.
    fn act(&mut self) {
        while let Some(action) = self.server.next_action() {
            match action {
                Action::Send(message) => {
                    if let Some(message) = self.post(message) {
                        return self.server.retry(message);
                    }
                }
                Action::Open(id, request) => self.open(id, &request),
                Action::Close(id) => {
                    let stopping = self.slots.get_mut(&id).is_some_and(|slot| slot.stop());
                    if !stopping {
                        self.server.closed(id);
                    }
                }
                Action::Retarget(id, vp) => {
                    if let Some(slot) = self.slots.get(&id) {
                        slot.retarget(vp);
                    }
                }
                Action::Map(..) => {}
                // Nothing but rings is mapped so far, and a ring's comes only when its channel has closed.
                Action::Unmap(id, gpadl) => self.server.unmapped(id, gpadl),
                Action::Gone(id) => {
                    self.slots.remove(&id);
                }
                Action::DropMessages => self.synic.drop_messages(),
            }
        }
    }

    /// Posts a message; gives it back if there is no room for it now.
    fn post(&mut self, message: HostMessage) -> Option<HostMessage> {
        match self.synic.post_message(message.vp, message.sint, message.payload()) {
            Ok(()) => {
                if let Some(tracer) = self.inbox.tracer.get() {
                    tracer.to_guest(message.vp, message.sint, message.payload());
                }
            }
            Err(PostError::Full(_)) => return Some(message),
            Err(error) => guest_warn!("An answer to the guest is lost: {error}"),
        }
        None
    }

    /// What records a channel's packets, if they are to be.
    fn channel_trace(&self, id: OfferId, request: &OpenRequest) -> Option<ChannelTrace> {
        self.inbox.tracer.get()?.channel(self.offer_of(id)?, request)
    }

    fn offer_of(&self, id: OfferId) -> Option<&Offer> {
        self.server.channels().find(|(info, _)| info.offer == id).map(|(_, offer)| offer)
    }

    fn open(&mut self, id: OfferId, request: &OpenRequest) {
        let trace = self.channel_trace(id, request);
        let sub_channel = self.offer_of(id).map_or(0, |offer| offer.sub_channel);
        let Some(slot) = self.slots.get_mut(&id) else {
            return self.server.opened(id, Err(Status::UNSUCCESSFUL));
        };
        let reporter = self.reports.of(id);
        let sub_channels = match sub_channel {
            0 => SubChannels::of(reporter.clone(), request.opening),
            _ => SubChannels::none(),
        };
        let opening = Opening {
            version: request.version,
            sub_channel,
            user_data: request.user_data,
            sub_channels,
            ram: self.ram.clone(),
        };
        let finished = Box::new(move || reporter.report(Report::Finished));
        let opened = slot.open(request, opening, &self.synic, trace, finished);
        match &opened {
            Ok(()) => guest_debug!("Channel {} of {} is open", request.channel.0, slot.name()),
            Err(error) => {
                let chain = super::worker::chain(error);
                guest_warn!("Channel {} of {} cannot be opened: {chain}", request.channel.0, slot.name());
            }
        }
        self.server.opened(id, opened.map_err(|_| Status::UNSUCCESSFUL));
    }
}

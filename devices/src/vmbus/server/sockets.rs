//! Hyper-V sockets. There are none yet: every guest that wants one is told that nobody listens.

use super::connection::Session;
use super::{Handled, Refusal, Server, Version, read};
use crate::vmbus::protocol::{TlConnectRequest, TlConnectResult};

impl Server {
    pub(super) fn on_tl_connect_request(&mut self, session: Session, body: &[u8]) -> Handled {
        let (request, _) = read::<TlConnectRequest>(body)?;
        // Before 4.1 a refusal has no message: the guest's own timeout ends the attempt.
        if session.version >= Version::V4_1 {
            let status = Refusal::Socket.status().0.into();
            let result = TlConnectResult { endpoint: request.endpoint, service: request.service, status };
            self.send(session.destination, &result);
        }
        Err(Refusal::Socket)
    }
}

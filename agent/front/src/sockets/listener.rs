//! Accepts the connections of one socket: takes a permit before each accept, identifies the peer,
//! and starts a task for each connection.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::unix::net;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use countersign_base::config::listener::ListenerKind;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::closer::Closer;
use super::connection::{self, ConnectionLimits, Handler};
use super::peer::Peer;
use super::stream::Stream;
use super::turns::Turns;
use crate::shutdown::Stop;

/// Limits on the number of connections, and on each connection.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    pub connections: usize,
    /// The last of `connections`, which are kept for peers that have few. So a further client gets
    /// in even if others take all that they can.
    pub connections_kept: usize,
    /// Most connections of one uid on one socket.
    pub connections_per_uid: usize,
    /// The same, while only the kept connections are left.
    pub few_connections: usize,
    /// Most connections of all peers together that the handler does not know. These are enough to
    /// tell each of them the error.
    pub stranger_connections: usize,
    /// Most connections on the admin socket. They are counted separately, so that clients cannot
    /// lock the operator out.
    pub admin_connections: usize,
    pub connection: ConnectionLimits,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_kept: 256,
            connections_per_uid: 256,
            few_connections: 16,
            stranger_connections: 32,
            admin_connections: 64,
            connection: ConnectionLimits::default(),
        }
    }
}

/// Most connections that are accepted before other tasks have their turn.
const MOST_IN_A_ROW: usize = 8;

/// The state that all accept loops share.
pub(crate) struct Accepting<H> {
    pub(crate) handler: Rc<H>,
    pub(crate) limits: ServerLimits,
    clients: Arc<Semaphore>,
    operators: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    per_peer: PerPeer,
    accepted: Cell<u64>,
    turns: Rc<Turns>,
    closer: Closer,
    stop: Stop,
}

type PerPeer = Rc<RefCell<HashMap<(ListenerKind, Option<u32>), usize>>>;

impl<H: Handler> Accepting<H> {
    pub(crate) fn new(handler: Rc<H>, limits: ServerLimits, stop: Stop) -> io::Result<Self> {
        Ok(Self {
            handler,
            limits,
            clients: Arc::new(Semaphore::new(limits.connections)),
            operators: Arc::new(Semaphore::new(limits.admin_connections)),
            strangers: Arc::new(Semaphore::new(limits.stranger_connections)),
            per_peer: PerPeer::default(),
            accepted: Cell::new(0),
            turns: Rc::default(),
            closer: Closer::start()?,
            stop,
        })
    }

    /// Accepts until the task is aborted. `kind` may change between two accepts, if a client is
    /// renamed.
    pub(crate) async fn accept_from(
        self: Rc<Self>,
        listener: UnixListener,
        kind: Rc<RefCell<ListenerKind>>,
    ) {
        let permits = match *kind.borrow() {
            ListenerKind::Admin => &self.operators,
            ListenerKind::Agent | ListenerKind::Client(_) => &self.clients,
        };
        let mut in_a_row = 0;
        // The semaphore is never closed, so this never fails.
        while let Ok(permit) = Arc::clone(permits).acquire_owned().await {
            let stream = accept(&listener).await;
            self.admit(stream, kind.borrow().clone(), permit);
            in_a_row = (in_a_row + 1) % MOST_IN_A_ROW;
            if in_a_row == 0 {
                // if many connect at once, other tasks still have their turn
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until every connection has ended.
    pub(crate) async fn drained(&self) {
        for (permits, all) in [
            (&self.clients, self.limits.connections),
            (&self.operators, self.limits.admin_connections),
        ] {
            let _ = permits.acquire_many(all as u32).await;
        }
    }

    fn admit(
        self: &Rc<Self>,
        stream: UnixStream,
        kind: ListenerKind,
        permit: OwnedSemaphorePermit,
    ) {
        self.accepted.set(self.accepted.get() + 1);
        let peer = Peer::identify(&stream, self.accepted.get(), kind);
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "a connection could not be served"),
        };
        let mut peer = match peer {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "a peer without credentials was turned away");
                return self.turn_away(stream, permit);
            }
        };
        let Some(place) = ConnectionPlace::take(&self.per_peer, &peer, self.most_of(&peer)) else {
            tracing::debug!(uid = peer.uid, listener = ?peer.listener, "too many connections of \
                one uid");
            return self.turn_away(stream, permit);
        };
        let Ok(stranger) = self.stranger_permit(&peer) else {
            tracing::debug!(uid = peer.uid, "too many connections of callers that are not clients");
            return self.turn_away(stream, permit);
        };
        let stream = match Stream::new(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "a connection could not be served"),
        };
        peer.may_pass_descriptors = peer.listener == ListenerKind::Admin && stranger.is_none();
        peer.take_seat(self.turns.seat(&self.handler.party(&peer)));
        let (own, limits, stop) = (Rc::clone(self), self.limits.connection, self.stop.clone());
        tokio::task::spawn_local(async move {
            connection::serve(stream, peer, Rc::clone(&own.handler), limits, stop, &own.closer)
                .await;
            drop((place, permit, stranger));
        });
    }

    fn turn_away(&self, stream: net::UnixStream, permit: OwnedSemaphorePermit) {
        if let Some(closed) = self.closer.close(stream) {
            tokio::task::spawn_local(async move {
                let _ = closed.await;
                drop(permit);
            });
        }
    }
}

impl<H: Handler> Accepting<H> {
    /// The number of connections that this peer may have now.
    fn most_of(&self, peer: &Peer) -> usize {
        let scarce = self.clients.available_permits() < self.limits.connections_kept;
        let ServerLimits { connections_per_uid, few_connections, .. } = self.limits;
        if scarce && peer.listener != ListenerKind::Admin {
            few_connections
        } else {
            connections_per_uid
        }
    }

    /// Takes a permit for a peer that the handler does not know. All such peers share a few
    /// permits.
    fn stranger_permit(
        &self,
        peer: &Peer,
    ) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        if self.handler.knows(peer) {
            Ok(None)
        } else {
            Arc::clone(&self.strangers).try_acquire_owned().map(Some)
        }
    }
}

/// One of the connections that a uid may have on a socket. It is given back on drop.
struct ConnectionPlace {
    counts: PerPeer,
    key: (ListenerKind, Option<u32>),
}

impl ConnectionPlace {
    fn take(counts: &PerPeer, peer: &Peer, limit: usize) -> Option<Self> {
        let key = (peer.listener.clone(), peer.uid);
        let mut borrowed = counts.borrow_mut();
        let count = borrowed.entry(key.clone()).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Self { counts: Rc::clone(counts), key })
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut counts = self.counts.borrow_mut();
        let last = counts.get_mut(&self.key).is_none_or(|count| {
            *count -= 1;
            *count == 0
        });
        if last {
            counts.remove(&self.key);
        }
    }
}

/// Accepts one connection. After an error, for example EMFILE, it waits and tries again. No such
/// error ends the agent.
async fn accept(listener: &UnixListener) -> UnixStream {
    const LONGEST_ACCEPT_PAUSE: Duration = Duration::from_secs(1);
    let mut pause = Duration::from_millis(5);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => tracing::warn!(%error, "a connection could not be accepted"),
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_ACCEPT_PAUSE.min(pause * 2);
    }
}

//! Opens the agent's sockets together, changes them all or none at a reload, and closes them in
//! order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::listener::{ListenerConfig, ListenerKind};
use tokio::net::UnixListener;
use tokio::task::AbortHandle;

use super::activation::GivenSockets;
use super::connection::Handler;
use super::listener::{Accepting, ServerLimits};
use super::socket::{BoundSocket, SocketError, create_directory};
use crate::shutdown::Stopper;

/// Everything between the clients and a [`Handler`]. Lives inside a `LocalRuntime`.
pub struct Server<H> {
    accepting: Rc<Accepting<H>>,
    stopper: Stopper,
    open: BTreeMap<PathBuf, OpenListener>,
    given: GivenSockets,
}

/// Sockets that are bound and not served yet.
#[derive(Debug)]
pub struct PreparedSockets {
    endpoints: Vec<ListenerConfig>,
    added: Vec<(Listener, ListenerConfig)>,
}

/// The first part is `None` for a socket of the service manager.
type Listener = (Option<BoundSocket>, UnixListener);

struct OpenListener {
    /// `None` for a socket of the service manager.
    socket: Option<BoundSocket>,
    kind: Rc<RefCell<ListenerKind>>,
    accept_loop: AbortHandle,
}

impl<H: Handler> Server<H> {
    /// A server that listens nowhere yet.
    pub fn new(handler: Rc<H>, limits: ServerLimits, given: GivenSockets) -> io::Result<Self> {
        let (stopper, stop) = Stopper::new();
        let accepting = Rc::new(Accepting::new(handler, limits, stop)?);
        Ok(Self { accepting, stopper, open: BTreeMap::new(), given })
    }

    /// Binds the missing ones of these sockets, and does not serve them yet. Nothing has changed if
    /// this returns an error, or if the caller drops the result.
    ///
    /// The sockets that the service manager handed over have to be among `endpoints` as long as the
    /// agent runs.
    pub fn prepare(
        &mut self,
        endpoints: Vec<ListenerConfig>,
    ) -> Result<PreparedSockets, SocketError> {
        self.given.check(&endpoints)?;
        let mut added = Vec::new();
        for endpoint in admin_last(&endpoints) {
            match self.open.get(&endpoint.path) {
                Some(open) if open.serves_like(&endpoint.kind) => {}
                Some(_) => return Err(SocketError::KindChanged(endpoint.path.clone())),
                None => added.push((self.listener(endpoint)?, endpoint.clone())),
            }
        }
        Ok(PreparedSockets { endpoints, added })
    }

    /// Prepares and serves these sockets. On an error nothing has changed.
    pub fn listen(&mut self, endpoints: Vec<ListenerConfig>) -> Result<(), SocketError> {
        let prepared = self.prepare(endpoints)?;
        self.serve(prepared);
        Ok(())
    }

    /// Listens on exactly these sockets from now on.
    ///
    /// Connections of a socket that is closed here go on. Their [`Handler`] decides what they may
    /// still do.
    pub fn serve(&mut self, prepared: PreparedSockets) {
        let PreparedSockets { endpoints, added } = prepared;
        self.open.retain(|path, _| endpoints.iter().any(|endpoint| endpoint.path == *path));
        for endpoint in endpoints {
            if let Some(open) = self.open.get(&endpoint.path) {
                open.kind.replace(endpoint.kind);
            }
        }
        for ((socket, listener), endpoint) in added {
            self.open.insert(
                endpoint.path,
                OpenListener::start(socket, listener, endpoint.kind, &self.accepting),
            );
        }
    }

    fn listener(&mut self, endpoint: &ListenerConfig) -> Result<Listener, SocketError> {
        if let Some(listener) = self.given.take(endpoint)? {
            return Ok((None, listener));
        }
        let (socket, listener) = BoundSocket::bind(&endpoint.path, &endpoint.kind)?;
        Ok((Some(socket), listener))
    }

    /// False if an accept loop has ended by itself, which happens only after a panic.
    pub fn listens(&self) -> bool {
        self.open.values().all(|open| !open.accept_loop.is_finished())
    }

    /// Stops accepting and reading, removes the sockets, and waits at most `patience` for requests
    /// under way.
    ///
    /// The locks are held until the end, so that the next agent does not start while this one still
    /// answers.
    pub async fn close(mut self, patience: Duration) {
        let mut closed = std::mem::take(&mut self.open);
        for open in closed.values_mut() {
            open.accept_loop.abort();
            open.socket.as_mut().map(BoundSocket::unlink);
        }
        self.stopper.stop();
        if tokio::time::timeout(patience, self.accepting.drained()).await.is_err() {
            tracing::warn!("requests were still under way when the agent stopped");
        }
    }
}

/// Makes the missing directories of these sockets. A confined process cannot make them later.
pub fn create_directories(endpoints: &[ListenerConfig]) -> Result<(), SocketError> {
    for endpoint in admin_last(endpoints) {
        if let Some(directory) = endpoint.path.parent() {
            create_directory(directory, &endpoint.kind)?;
        }
    }
    Ok(())
}

/// The admin socket comes last: if it shares a missing directory with clients' sockets, the
/// directory is made so that clients can reach theirs.
fn admin_last(endpoints: &[ListenerConfig]) -> impl Iterator<Item = &ListenerConfig> {
    let (admin, others): (Vec<_>, Vec<_>) =
        endpoints.iter().partition(|endpoint| endpoint.kind == ListenerKind::Admin);
    others.into_iter().chain(admin)
}

impl OpenListener {
    fn start<H: Handler>(
        socket: Option<BoundSocket>,
        listener: UnixListener,
        kind: ListenerKind,
        accepting: &Rc<Accepting<H>>,
    ) -> Self {
        let kind = Rc::new(RefCell::new(kind));
        let accept_loop = Rc::clone(accepting).accept_from(listener, Rc::clone(&kind));
        Self { socket, kind, accept_loop: tokio::task::spawn_local(accept_loop).abort_handle() }
    }

    /// True if an open socket can go on with this kind. A client may be renamed while its socket
    /// stays, but the mode of the socket and its permits may not change.
    fn serves_like(&self, kind: &ListenerKind) -> bool {
        let own = self.kind.borrow();
        std::mem::discriminant(&*own) == std::mem::discriminant(kind)
    }
}

impl Drop for OpenListener {
    fn drop(&mut self) {
        self.accept_loop.abort();
    }
}

impl<H> std::fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("open", &self.open.keys()).finish_non_exhaustive()
    }
}

/// Lets the agent open as many descriptors as its hard limit allows. A connection needs two.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open descriptors stays as it is");
    }
}

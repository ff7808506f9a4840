//! The sockets of the agent while it runs: opened together, changed all or nothing at a reload,
//! closed in order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::endpoint::{Endpoint, ListenerKind};
use tokio::net::UnixListener;
use tokio::task::AbortHandle;

use super::activation::GivenSockets;
use super::connection::Handler;
use super::listener::{Accepting, Limits};
use super::socket::{BoundSocket, SocketError, create_directory};
use crate::shutdown::Stopper;

/// Everything between the clients and a [`Handler`]. Lives inside a `LocalRuntime`.
pub struct Server<H> {
    accepting: Rc<Accepting<H>>,
    stopper: Stopper,
    open: BTreeMap<PathBuf, Open>,
    given: GivenSockets,
}

/// Sockets that are bound and not served yet.
#[derive(Debug)]
pub struct Prepared {
    endpoints: Vec<Endpoint>,
    added: Vec<(Listener, Endpoint)>,
}

/// Without a socket of its own: the service manager's.
type Listener = (Option<BoundSocket>, UnixListener);

struct Open {
    /// `None`: the service manager's.
    socket: Option<BoundSocket>,
    kind: Rc<RefCell<ListenerKind>>,
    accept_loop: AbortHandle,
}

impl<H: Handler> Server<H> {
    /// A server that listens nowhere yet.
    pub fn new(handler: Rc<H>, limits: Limits, given: GivenSockets) -> io::Result<Self> {
        let (stopper, stop) = Stopper::new();
        let accepting = Rc::new(Accepting::new(handler, limits, stop)?);
        Ok(Self { accepting, stopper, open: BTreeMap::new(), given })
    }

    /// Binds what is missing of these sockets, and serves none of them yet. On an error nothing has
    /// changed, and neither has it when what was prepared is dropped.
    ///
    /// What the service manager handed over has to be among them for as long as the agent runs.
    pub fn prepare(&mut self, endpoints: Vec<Endpoint>) -> Result<Prepared, SocketError> {
        self.given.check(&endpoints)?;
        let mut added = Vec::new();
        for endpoint in admin_last(&endpoints) {
            match self.open.get(&endpoint.path) {
                Some(open) if open.serves_like(&endpoint.kind) => {}
                Some(_) => return Err(SocketError::KindChanged(endpoint.path.clone())),
                None => added.push((self.listener(endpoint)?, endpoint.clone())),
            }
        }
        Ok(Prepared { endpoints, added })
    }

    /// Prepares and serves. On an error nothing has changed.
    pub fn listen(&mut self, endpoints: Vec<Endpoint>) -> Result<(), SocketError> {
        let prepared = self.prepare(endpoints)?;
        self.serve(prepared);
        Ok(())
    }

    /// Listens on exactly these sockets from now on.
    ///
    /// Connections that came in by a socket that is closed here go on; their [`Handler`] judges
    /// what they may still do.
    pub fn serve(&mut self, prepared: Prepared) {
        let Prepared { endpoints, added } = prepared;
        self.open.retain(|path, _| endpoints.iter().any(|endpoint| endpoint.path == *path));
        for endpoint in endpoints {
            if let Some(open) = self.open.get(&endpoint.path) {
                open.kind.replace(endpoint.kind);
            }
        }
        for ((socket, listener), endpoint) in added {
            self.open.insert(
                endpoint.path,
                Open::start(socket, listener, endpoint.kind, &self.accepting),
            );
        }
    }

    fn listener(&mut self, endpoint: &Endpoint) -> Result<Listener, SocketError> {
        if let Some(listener) = self.given.take(endpoint)? {
            return Ok((None, listener));
        }
        let (socket, listener) = BoundSocket::bind(&endpoint.path, &endpoint.kind)?;
        Ok((Some(socket), listener))
    }

    /// False where an accept loop has ended by itself, which none does unless it panicked.
    pub fn listens(&self) -> bool {
        self.open.values().all(|open| !open.accept_loop.is_finished())
    }

    /// Stops accepting and reading, removes the sockets, lets requests under way finish for at most
    /// `patience`.
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

/// Makes the directories that are missing, for a process that will no longer be able to.
pub fn create_directories(endpoints: &[Endpoint]) -> Result<(), SocketError> {
    for endpoint in admin_last(endpoints) {
        if let Some(directory) = endpoint.path.parent() {
            create_directory(directory, &endpoint.kind)?;
        }
    }
    Ok(())
}

/// Where a directory is missing and shared, clients must be able to reach theirs.
fn admin_last(endpoints: &[Endpoint]) -> impl Iterator<Item = &Endpoint> {
    let (admin, others): (Vec<_>, Vec<_>) =
        endpoints.iter().partition(|endpoint| endpoint.kind == ListenerKind::Admin);
    others.into_iter().chain(admin)
}

impl Open {
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

    /// A client may be renamed while its socket stays; the mode of the socket and its permits may
    /// not change.
    fn serves_like(&self, kind: &ListenerKind) -> bool {
        let own = self.kind.borrow();
        std::mem::discriminant(&*own) == std::mem::discriminant(kind)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.accept_loop.abort();
    }
}

impl<H> std::fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("open", &self.open.keys()).finish_non_exhaustive()
    }
}

/// Lets the agent open as many descriptors as its hard limit allows; a connection takes two.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open descriptors stays as it is");
    }
}

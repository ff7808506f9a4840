//! Closes the sockets of peers in a thread of its own, since a peer can make that take long.
//!
//! The last process that closes a descriptor does the remaining work: it waits until a lingering
//! connection has sent its data, or frees a file that has no name any more. A peer can make the
//! agent the last process: it passes a descriptor and closes its own. So the front's thread does
//! not take descriptors of peers, and does not close sockets that may hold some. One thread closes
//! these sockets. Another thread interrupts it if it waits.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use countersign_base::system::sys;
use rustix::io::ioctl_fionread;
use tokio::sync::oneshot;

use super::descriptor;

/// Longest time that closing one socket may delay the next one.
const LONGEST_CLOSE: Duration = Duration::from_millis(1);
/// Stack of each thread, in bytes. Their calls are not deep.
const STACK: usize = 64 * 1024;

type SocketToClose = (UnixStream, oneshot::Sender<()>);

/// The queue to the thread that closes. Both threads end when it is dropped.
#[derive(Debug)]
pub(crate) struct Closer(mpsc::Sender<SocketToClose>);

/// The data that the two threads share.
#[derive(Debug, Default)]
struct CloserWork {
    /// Odd while a socket is being closed.
    steps: AtomicU64,
    ended: AtomicBool,
}

impl Closer {
    pub(crate) fn start() -> io::Result<Self> {
        sys::expect_interruptions()?;
        let (queue, sockets) = mpsc::channel::<SocketToClose>();
        let work = Arc::new(CloserWork::default());
        let (closes, interrupts) = (Arc::clone(&work), work);
        let (watcher, watched) = mpsc::channel::<Thread>();
        let named = |name: &str| thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        let closing = named("closer").spawn(move || {
            if let Ok(watcher) = watched.recv() {
                close_all(sockets, &closes, &watcher);
            }
        })?;
        let interrupting =
            named("interrupter").spawn(move || interrupt_each(&closing, &interrupts))?;
        // If the closing thread has ended, its queue is gone too.
        let _ = watcher.send(interrupting.thread().clone());
        Ok(Self(queue))
    }

    /// Ends a connection at once. If the thread has to close the socket, the returned receiver
    /// resolves once it is closed.
    pub(crate) fn close(&self, socket: UnixStream) -> Option<oneshot::Receiver<()>> {
        let _ = socket.shutdown(Shutdown::Both); // fails if the peer has gone
        descriptors_may_lie_in(&socket).then(|| {
            let (closed, is_closed) = oneshot::channel();
            // The send cannot fail: the thread outlives this sender.
            let _ = self.0.send((socket, closed));
            is_closed
        })
    }
}

/// True if the socket may hold descriptors. It is shut down, so nothing more can arrive. Data that
/// is too long to be looked at may hold some.
fn descriptors_may_lie_in(socket: &UnixStream) -> bool {
    const LOOKED_AT: usize = 8 * 1024;
    match ioctl_fionread(socket) {
        Ok(0) => false,
        Ok(bytes @ 1..) if bytes <= LOOKED_AT as u64 => {
            let seen = descriptor::look(socket, &mut [0; LOOKED_AT]);
            !seen.is_ok_and(|(seen, descriptors)| !descriptors && seen as u64 == bytes)
        }
        _ => true,
    }
}

fn close_all(sockets: mpsc::Receiver<SocketToClose>, work: &CloserWork, interrupter: &Thread) {
    for (socket, closed) in sockets {
        work.steps.fetch_add(1, Ordering::SeqCst);
        interrupter.unpark();
        drop(socket);
        work.steps.fetch_add(1, Ordering::SeqCst);
        let _ = closed.send(());
    }
    work.ended.store(true, Ordering::SeqCst);
    interrupter.unpark();
}

/// Interrupts the closing of each socket that takes long. An interruption that comes a moment too
/// early is lost, so it is repeated.
fn interrupt_each(closing: &JoinHandle<()>, work: &CloserWork) {
    let mut last = 0;
    while !work.ended.load(Ordering::SeqCst) {
        let step = work.steps.load(Ordering::SeqCst);
        match step % 2 {
            // Nothing happened for a while.
            0 if step == last => thread::park(),
            1 if step == last => sys::interrupt(closing),
            _ => {}
        }
        last = step;
        thread::sleep(LONGEST_CLOSE);
    }
}

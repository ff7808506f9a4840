//! One connection: what arrived is cut into requests, these are answered in order, and neither side waits for ever.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use countersign_core::wire;
use rustix::event::{PollFd, PollFlags};
use tokio::time::{Instant, sleep_until};

use crate::frame::{Answer, FrameError, FrameReader, Incoming, MAX_FRAME};
use crate::in_flight::InFlight;
use crate::peer::{ListenerKind, Peer};
use crate::shutdown::Stop;
use crate::stream::Stream;
use crate::{descriptor, spare};

/// Answers the requests of all connections.
pub trait Handler: 'static {
    /// Answers one request. Requests of a connection start in order and run together.
    ///
    /// A request that was started is run to its end, even where the peer is gone, so that what it recorded as an
    /// intent gets its result; what waits for a person watches [`Peer::gone`].
    fn handle(&self, peer: &Peer, incoming: Incoming) -> impl Future<Output = Answer>;

    /// False for a peer that nothing is served to: few of those are let in at a time.
    fn knows(&self, _peer: &Peer) -> bool {
        true
    }

    fn connected(&self, _peer: &Peer) {}

    /// Nobody can read an answer any more; requests may still be running.
    fn disconnected(&self, _peer: &Peer) {}
}

/// What one connection may use.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Requests started and not yet answered; beyond that nothing is read.
    pub in_flight: usize,
    /// From the first byte of a frame to its last.
    pub half_frame: Duration,
    /// Without reading a byte while answers wait.
    pub not_reading: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { in_flight: 64, half_frame: Duration::from_secs(10), not_reading: Duration::from_secs(10) }
    }
}

/// Payload bytes of started requests, lists that were asked for, and bytes of answers not yet written, beyond which nothing is read.
const MAX_HELD: usize = MAX_FRAME;
/// What a list counts for among the bytes held.
const LONG_ANSWER: usize = MAX_HELD / 4;
/// How often a peer that is not being read from is checked for having gone.
const HANG_UP_CHECK: Duration = Duration::from_secs(1);

/// Why a connection ended other than by the peer closing it in order.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the peer sent more than one descriptor with one message")]
    Descriptors(#[from] FrameError),
    #[error("the peer is gone")]
    Gone,
    #[error("the peer did not finish a frame in time")]
    HalfFrame,
    #[error("the peer did not read its answers")]
    NotReading,
    #[error("the socket failed")]
    Socket(#[from] io::Error),
}

/// `Start` starts the answer to a message.
struct Connection<Start, Running> {
    stream: Stream,
    peer: Rc<Peer>,
    start: Start,
    limits: ConnectionLimits,
    reader: FrameReader,
    in_flight: InFlight<Running>,
    output: Output,
    /// False once the peer has closed its side, sent a bad frame, or the agent stops.
    reading: bool,
    /// When the first byte of the frame that is incomplete arrived.
    half_frame_since: Option<Instant>,
}

/// Serves one connection to its end.
pub(crate) async fn serve<H: Handler>(
    stream: Stream,
    peer: Peer,
    handler: Rc<H>,
    limits: ConnectionLimits,
    stop: Stop,
) {
    let peer = Rc::new(peer);
    handler.connected(&peer);
    let start = |incoming| {
        let (handler, peer) = (Rc::clone(&handler), Rc::clone(&peer));
        async move { handler.handle(&peer, incoming).await }
    };
    let mut connection = Connection {
        stream,
        peer: Rc::clone(&peer),
        start,
        limits,
        reader: FrameReader::default(),
        in_flight: InFlight::new(),
        output: Output::default(),
        reading: true,
        half_frame_since: None,
    };
    if let Err(reason) = connection.run(stop).await {
        tracing::debug!(connection = peer.connection, uid = peer.uid, %reason, "connection ended");
    }
    peer.mark_gone();
    handler.disconnected(&peer);
    let mut in_flight = connection.in_flight;
    drop(connection.stream);
    let mut unread = Vec::new();
    while !in_flight.is_empty() {
        in_flight.answers(&mut unread).await;
        unread.clear();
    }
}

impl<Start, Running> Connection<Start, Running>
where
    Start: Fn(Incoming) -> Running,
    Running: Future<Output = Answer>,
{
    async fn run(&mut self, mut stop: Stop) -> Result<(), Ended> {
        let mut stopped = std::pin::pin!(stop.requested());
        loop {
            self.output.write_to(&self.stream)?;
            for _ in 0..self.start_requests() {
                tokio::task::consume_budget().await; // whoever floods lets the others have their turn
            }
            if !self.reading && self.in_flight.is_empty() && self.output.is_empty() {
                return Ok(());
            }
            let may_read = self.reading && self.has_room();
            let timer = self.timer(may_read);
            tokio::select! {
                biased;
                () = self.in_flight.answers(&mut self.output.bytes), if !self.in_flight.is_empty() => {}
                ready = self.stream.readable(), if may_read => {
                    ready?;
                    self.read()?;
                }
                ready = self.stream.writable(), if !self.output.is_empty() => ready?,
                () = reached(timer), if timer.is_some() => self.check(may_read)?,
                () = &mut stopped, if self.reading => self.reading = false,
            }
        }
    }

    /// False while as much is under way, or waiting to be read by the peer, as one connection may have.
    fn has_room(&self) -> bool {
        self.in_flight.len() < self.limits.in_flight
            && self.in_flight.bytes() < MAX_HELD
            && self.output.bytes.len() < MAX_HELD
    }

    fn read(&mut self) -> Result<(), Ended> {
        let received = match self.peer.listener {
            ListenerKind::Admin => descriptor::receive(&self.stream, self.reader.buffer()),
            _ => self.stream.append_to(self.reader.buffer()).map(|bytes| (bytes, None)),
        };
        match received {
            Ok((0, _)) if self.hung_up() => return Err(Ended::Gone),
            Ok((0, _)) => self.reading = false,
            Ok((_, None)) => {}
            Ok((_, Some(descriptor))) => self.reader.attach(descriptor)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Starts every request that is complete, as far as there is room, and says how many.
    fn start_requests(&mut self) -> usize {
        let mut started = 0;
        while self.has_room() {
            match self.reader.next_frame() {
                Ok(Some(incoming)) => {
                    self.start(incoming);
                    self.half_frame_since = None;
                    started += 1;
                }
                Ok(None) => {
                    self.reader.release();
                    let since = self.half_frame_since.unwrap_or_else(Instant::now);
                    self.half_frame_since = self.reader.holds_bytes().then_some(since);
                    return started;
                }
                Err(error) => self.refuse_rest(error),
            }
        }
        self.half_frame_since = None; // nothing is read now: the time is ours, not the peer's
        started
    }

    fn start(&mut self, incoming: Incoming) {
        let bytes = match &incoming {
            // A few bytes ask for lists as long as the operator's keys are many.
            Incoming::Extension { name, .. } if name == wire::KEYS || name == wire::STATUS => LONG_ANSWER,
            Incoming::RequestIdentities => LONG_ANSWER,
            Incoming::Extension { payload, .. } => payload.len(),
            Incoming::Oversized { .. } | Incoming::Refused(_) => 0,
        };
        self.in_flight.push(bytes, (self.start)(incoming));
    }

    /// What was asked before the bad frame is still answered.
    fn refuse_rest(&mut self, error: FrameError) {
        tracing::debug!(connection = self.peer.connection, uid = self.peer.uid, %error, "bad frame");
        self.reader = FrameReader::default();
        self.reading = false;
    }

    fn timer(&self, may_read: bool) -> Option<Instant> {
        let half_frame = self.half_frame_since.filter(|_| may_read).map(|since| since + self.limits.half_frame);
        let not_reading = self.output.stalled_since.map(|since| since + self.limits.not_reading);
        let hang_up = (!may_read).then(|| Instant::now() + HANG_UP_CHECK);
        [half_frame, not_reading, hang_up].into_iter().flatten().min()
    }

    fn check(&self, may_read: bool) -> Result<(), Ended> {
        let expired = |since: Option<Instant>, limit| since.is_some_and(|since| since.elapsed() >= limit);
        if may_read && expired(self.half_frame_since, self.limits.half_frame) {
            return Err(Ended::HalfFrame);
        }
        if expired(self.output.stalled_since, self.limits.not_reading) {
            return Err(Ended::NotReading);
        }
        if !may_read && self.hung_up() {
            return Err(Ended::Gone);
        }
        Ok(())
    }

    /// True once the peer has closed both directions; a peer that only finished asking still reads.
    fn hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&self.stream, PollFlags::empty())];
        let now = rustix::event::Timespec::default();
        let polling = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&now)));
        polling.is_ok() && polled[0].revents().contains(PollFlags::HUP)
    }
}

/// Arms a timer only once it is waited for, which no request that is answered at once does.
async fn reached(time: Option<Instant>) {
    if let Some(time) = time {
        sleep_until(time).await;
    }
}

/// Answers on their way to the peer.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    written: usize,
    /// Since when the peer has not taken a byte, where some wait.
    stalled_since: Option<Instant>,
}

impl Output {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes all that the socket takes at once; usually everything, in one write.
    fn write_to(&mut self, stream: &Stream) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match stream.try_write(&self.bytes[self.written..]) {
                Ok(written) => {
                    self.written += written;
                    self.stalled_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if !self.bytes.is_empty() {
            spare::give(std::mem::take(&mut self.bytes));
            *self = Self::default();
        }
        Ok(())
    }
}

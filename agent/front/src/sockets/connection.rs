//! Serves one connection: cuts the bytes into requests and answers them in order, so that neither
//! side waits for ever.

use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use countersign_core::wire;
use countersign_core::wire::ssh_agent::MAX_FRAME;
use rustix::event::{PollFd, PollFlags};
use tokio::time::{Instant, sleep_until};

use super::closer::Closer;
use super::frame::{Answer, FrameError, FrameReader, Incoming};
use super::in_flight::InFlight;
use super::peer::Peer;
use super::stream::Stream;
use super::turns::{Party, Seat, Ticket};
use super::{descriptor, spare_buffers};
use crate::shutdown::Stop;

/// Answers the requests of all connections.
pub trait Handler: 'static {
    /// Answers one request. Requests of a connection start in order and run together.
    ///
    /// It is the peer's turn when this begins. A handler that does much work after a wait asks for
    /// another turn with [`Peer::turn`].
    ///
    /// A request that was started is run to its end even if the peer is gone, so that a recorded
    /// intent gets its result. Limits depend on this: only its end frees or counts the amounts that
    /// the ledger holds for a request. A handler that waits for a person watches [`Peer::gone`].
    fn handle(&self, peer: &Peer, incoming: Incoming) -> impl Future<Output = Answer>;

    /// False for a peer that the handler does not serve. Only few such peers are let in at a time.
    fn knows(&self, _peer: &Peer) -> bool {
        true
    }

    /// The party that the peer's messages are counted for when turns are given out.
    fn party(&self, peer: &Peer) -> Party {
        Party::Uid(peer.uid)
    }

    fn connected(&self, _peer: &Peer) {}

    /// Called when nobody can read an answer any more. Requests may still be running.
    fn disconnected(&self, _peer: &Peer) {}
}

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Most requests that are started and not yet answered. Beyond that nothing is read.
    pub in_flight: usize,
    /// Longest time from the first byte of a frame to its last.
    pub half_frame: Duration,
    /// Longest time that a peer reads no byte while answers wait.
    pub not_reading: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            in_flight: 64,
            half_frame: Duration::from_secs(10),
            not_reading: Duration::from_secs(10),
        }
    }
}

/// Most bytes held of started requests, and most bytes of answers not yet written. Beyond that
/// nothing is read.
const MAX_HELD: usize = MAX_FRAME;
/// Bytes that a request for a list counts as.
const LONG_ANSWER: usize = MAX_HELD / 4;
/// Bytes that a request under way counts beside its payload, in its client's share.
const REQUEST: usize = 4 * 1024;
/// Pause between two checks whether a peer has gone, while nothing is read from it.
const HANG_UP_CHECK: Duration = Duration::from_secs(1);

/// Why a connection ended, if the peer did not close it in order.
#[derive(Debug, thiserror::Error)]
enum ConnectionEnd {
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

/// The state of one connection. `Start` starts the answer to a message.
struct ServedConnection<Start, Running> {
    stream: Stream,
    peer: Rc<Peer>,
    start: Start,
    limits: ConnectionLimits,
    reader: FrameReader,
    in_flight: InFlight<Running>,
    output: AnswerBuffer,
    /// There may be something to read.
    arrived: bool,
    /// Present while the connection waits for its turn; with the time when the wait began.
    ticket: Option<(Ticket, Instant)>,
    /// It is the connection's turn.
    called: bool,
    /// False once the peer has closed its side, sent a bad frame, or the agent stops.
    reading: bool,
    /// The time when the first byte of an incomplete frame arrived.
    half_frame_since: Option<Instant>,
}

/// Serves one connection to its end.
pub(crate) async fn serve<H: Handler>(
    stream: Stream,
    peer: Peer,
    handler: Rc<H>,
    limits: ConnectionLimits,
    stop: Stop,
    closer: &Closer,
) {
    let peer = Rc::new(peer);
    handler.connected(&peer);
    let start = |incoming| {
        let (handler, peer) = (Rc::clone(&handler), Rc::clone(&peer));
        async move { handler.handle(&peer, incoming).await }
    };
    let mut connection = ServedConnection {
        stream,
        peer: Rc::clone(&peer),
        start,
        limits,
        reader: FrameReader::default(),
        in_flight: InFlight::new(),
        output: AnswerBuffer::default(),
        arrived: false,
        ticket: None,
        called: false,
        reading: true,
        half_frame_since: None,
    };
    if let Err(reason) = connection.run(stop).await {
        tracing::debug!(connection = peer.connection, uid = peer.uid, %reason, "connection ended");
    }
    peer.mark_gone();
    handler.disconnected(&peer);
    let mut in_flight = connection.in_flight;
    drop(connection.ticket);
    let closed = closer.close(connection.stream.into());
    if let Some(seat) = peer.seat() {
        seat.holds(taken_by(&in_flight));
    }
    let mut unread = Vec::new();
    while !in_flight.is_empty() {
        in_flight.answers(&mut unread).await;
        unread.clear();
    }
    if let Some(closed) = closed {
        let _ = closed.await;
    }
}

impl<Start, Running> ServedConnection<Start, Running>
where
    Start: Fn(Incoming) -> Running,
    Running: Future<Output = Answer>,
{
    async fn run(&mut self, mut stop: Stop) -> Result<(), ConnectionEnd> {
        let mut stopped = std::pin::pin!(stop.requested());
        loop {
            self.output.write_to(&self.stream)?;
            poll_fn(|context| Poll::Ready(self.take_messages(context))).await?;
            self.count_held();
            if !self.reading
                && !self.reader.has_frame()
                && self.in_flight.is_empty()
                && self.output.is_empty()
            {
                return Ok(());
            }
            let (waits, may_read) = (self.ticket.is_some(), self.reading && self.has_room());
            let timer = self.timer(may_read);
            tokio::select! {
                biased;
                () = self.in_flight.answers(&mut self.output.bytes),
                    if !self.in_flight.is_empty() => {}
                () = called(&self.ticket), if waits => self.begin_turn(),
                ready = self.stream.readable(), if may_read && !waits => {
                    ready?;
                    self.arrived = true;
                }
                ready = self.stream.writable(), if !self.output.is_empty() => ready?,
                () = reached(timer), if timer.is_some() => self.check(may_read)?,
                () = &mut stopped, if self.reading => self.reading = false,
            }
        }
    }

    /// Takes one message for each turn that the connection has now. If there are more messages, the
    /// connection gets in line.
    fn take_messages(&mut self, context: &mut Context<'_>) -> Result<(), ConnectionEnd> {
        while self.has_work() && self.has_room() && self.ticket.is_none() {
            let begins = !self.reader.holds_bytes();
            let waits = match self.peer.seat() {
                Some(seat)
                    if !std::mem::take(&mut self.called) && !seat.may_begin_at_once(begins) =>
                {
                    seat.wait(begins)
                }
                _ => {
                    self.take_message(context)?;
                    self.count_held();
                    continue;
                }
            };
            self.ticket = Some((waits, Instant::now()));
        }
        self.called = false;
        Ok(())
    }

    fn has_work(&self) -> bool {
        (self.arrived && self.reading) || self.reader.has_frame()
    }

    /// Reads until there is a message or nothing more to read. Begins the message.
    fn take_message(&mut self, context: &mut Context<'_>) -> Result<(), ConnectionEnd> {
        loop {
            match self.reader.next_frame() {
                Ok(Some(incoming)) => {
                    self.begin(incoming, context);
                    self.half_frame_since = None;
                    return Ok(());
                }
                Ok(None) if self.arrived && self.reading => self.read()?,
                Ok(None) => {
                    self.reader.release();
                    let since = self.half_frame_since.unwrap_or_else(Instant::now);
                    self.half_frame_since = self.reader.holds_bytes().then_some(since);
                    return Ok(());
                }
                Err(error) => {
                    self.refuse_rest(error);
                    return Ok(());
                }
            }
        }
    }

    fn begin_turn(&mut self) {
        self.called = true;
        let waited = self.ticket.take().map(|(_, since)| since.elapsed());
        if let (Some(since), Some(waited)) = (&mut self.half_frame_since, waited) {
            *since += waited; // this time was ours, not the peer's
        }
    }

    /// Reports the bytes that the connection holds of its client's share.
    fn count_held(&self) {
        if let Some(seat) = self.peer.seat() {
            seat.holds(self.reader.held() + taken_by(&self.in_flight) + self.output.bytes.len());
        }
    }

    /// False while this connection has as many requests under way, or as many answers that the peer
    /// has not read, as it may have. If its client's share is used up, the connection may still
    /// have one request: without one it could give nothing back.
    fn has_room(&self) -> bool {
        let most = if self.peer.seat().is_some_and(Seat::is_share_taken) {
            1
        } else {
            self.limits.in_flight
        };
        self.in_flight.len() < most
            && self.in_flight.bytes() < MAX_HELD
            && self.output.bytes.len() < MAX_HELD
    }

    fn read(&mut self) -> Result<(), ConnectionEnd> {
        let received = match self.peer.may_pass_descriptors {
            true => descriptor::receive(&self.stream, self.reader.buffer())
                .map(|(bytes, passed)| (bytes, passed, true)),
            false => descriptor::receive_bytes(&self.stream, self.reader.buffer())
                .map(|(bytes, descriptors_lie_there)| (bytes, None, !descriptors_lie_there)),
        };
        match received {
            Ok((0, ..)) if self.hung_up() => return Err(ConnectionEnd::Gone),
            Ok((0, ..)) => self.reading = false,
            Ok((_, passed, goes_on)) => {
                self.reading = goes_on;
                passed.map_or(Ok(()), |descriptor| self.reader.attach(descriptor))?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.arrived = false,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn begin(&mut self, incoming: Incoming, context: &mut Context<'_>) {
        let bytes = match &incoming {
            // A few bytes ask for a list of all keys, which can be long.
            Incoming::Extension { name, .. } if name == wire::KEYS || name == wire::STATUS => {
                LONG_ANSWER
            }
            Incoming::RequestIdentities => LONG_ANSWER,
            Incoming::Extension { payload, .. } => payload.len(),
            Incoming::Oversized { .. } | Incoming::Refused(_) => 0,
        };
        self.in_flight.begin(bytes, (self.start)(incoming), context);
    }

    /// Stops reading after a bad frame. Requests before it are still answered.
    fn refuse_rest(&mut self, error: FrameError) {
        tracing::debug!(
            connection = self.peer.connection,
            uid = self.peer.uid,
            %error,
            "bad frame",
        );
        self.reader = FrameReader::default();
        self.reading = false;
    }

    /// The next time to check. The time of an incomplete frame counts only while the peer still has
    /// to send the rest.
    fn timer(&self, may_read: bool) -> Option<Instant> {
        let half_frame = self
            .half_frame_since
            .filter(|_| may_read && self.ticket.is_none())
            .map(|since| since + self.limits.half_frame);
        let not_reading = self.output.stalled_since.map(|since| since + self.limits.not_reading);
        let hang_up = (!may_read).then(|| Instant::now() + HANG_UP_CHECK);
        [half_frame, not_reading, hang_up].into_iter().flatten().min()
    }

    fn check(&self, may_read: bool) -> Result<(), ConnectionEnd> {
        let expired =
            |since: Option<Instant>, limit| since.is_some_and(|since| since.elapsed() >= limit);
        if may_read
            && self.ticket.is_none()
            && expired(self.half_frame_since, self.limits.half_frame)
        {
            return Err(ConnectionEnd::HalfFrame);
        }
        if expired(self.output.stalled_since, self.limits.not_reading) {
            return Err(ConnectionEnd::NotReading);
        }
        if !may_read && self.hung_up() {
            return Err(ConnectionEnd::Gone);
        }
        Ok(())
    }

    /// True once the peer has closed both directions. A peer that only closed its sending side
    /// still reads.
    fn hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&self.stream, PollFlags::empty())];
        let now = rustix::event::Timespec::default();
        let polling = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&now)));
        polling.is_ok() && polled[0].revents().contains(PollFlags::HUP)
    }
}

fn taken_by<Running: Future<Output = Answer>>(requests: &InFlight<Running>) -> usize {
    requests.bytes() + requests.len() * REQUEST
}

/// Waits for the turn of a connection that has a ticket.
async fn called(ticket: &Option<(Ticket, Instant)>) {
    if let Some((ticket, _)) = ticket {
        ticket.called().await;
    }
}

/// Sets a timer only when something waits for it: a request that is answered at once sets none.
async fn reached(time: Option<Instant>) {
    if let Some(time) = time {
        sleep_until(time).await;
    }
}

/// Answers on their way to the peer.
#[derive(Default)]
struct AnswerBuffer {
    bytes: Vec<u8>,
    written: usize,
    /// The time since which the peer has taken no byte, if some wait.
    stalled_since: Option<Instant>,
}

impl AnswerBuffer {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes as much as the socket takes at once: usually everything, in one write.
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
            spare_buffers::give(std::mem::take(&mut self.bytes));
            *self = Self::default();
        }
        Ok(())
    }
}

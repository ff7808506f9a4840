//! Sends requests in frames of the agent protocol, and keeps the same number of them under way on
//! each connection.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, poll};

use crate::measure::{Subject, histogram};
use crate::process::Process;

pub(crate) const LENGTH_FIELD: usize = 4;

/// A frame of the agent protocol.
pub(crate) fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = (length as u32).to_be_bytes().to_vec();
    frame.push(kind);
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

/// A string as that protocol writes it.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// A subject that sends the same request again and again.
#[derive(Debug)]
pub(crate) struct Load {
    name: String,
    processes: Box<dyn FnProcesses>,
    connections: Vec<Connection>,
    depth: usize,
    request: Vec<u8>,
    /// Between an answer and the next request.
    pause: Duration,
    /// Type and length of the first answer; others have that type and nearly that length.
    answer: (u8, usize),
}

/// Gives the processes that serve the requests.
pub(crate) trait FnProcesses: Fn() -> Vec<Process> {}
impl<F: Fn() -> Vec<Process>> FnProcesses for F {}
impl std::fmt::Debug for dyn FnProcesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FnProcesses")
    }
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    sent: VecDeque<Instant>,
}

impl Load {
    /// Connects, and has the request answered once; `good` judges that answer.
    pub(crate) fn new(
        name: impl Into<String>,
        socket: &Path,
        (clients, depth): (usize, usize),
        request: Vec<u8>,
        processes: impl Fn() -> Vec<Process> + 'static,
        good: impl Fn(&[u8]) -> bool,
    ) -> anyhow::Result<Self> {
        let name = name.into();
        let mut connections =
            (0..clients).map(|_| Connection::open(socket)).collect::<Result<Vec<_>, _>>()?;
        let first = connections[0].call(&request).with_context(|| format!("{name}: no answer"))?;
        ensure!(good(&first), "{name}: answered {}", String::from_utf8_lossy(&first));
        let answer = (first[0], first.len());
        let (processes, pause) = (Box::new(processes), Duration::ZERO);
        Ok(Self { name, processes, connections, depth, request, pause, answer })
    }

    /// Sleeps before each request but the first, as a bot does that waits for prices.
    pub(crate) fn paced(self) -> Self {
        Self { pause: Duration::from_micros(300), ..self }
    }

    /// Bytes of a request and of an answer, without their length fields.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.request.len() - LENGTH_FIELD, self.answer.1)
    }

    /// Works until `requests` are answered.
    pub(crate) fn requests(&mut self, requests: u64) -> anyhow::Result<()> {
        let mut answered = 0;
        while answered < requests {
            answered += self.work(Duration::from_millis(200))?.len();
        }
        Ok(())
    }

    /// Takes the answers that have come on one connection, and sends as many new requests if
    /// `more`.
    fn turn(
        &mut self,
        index: usize,
        latencies: &mut Histogram<u64>,
        more: bool,
    ) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        let mut answered = 0;
        let (kind, length) = self.answer;
        connection.receive(|sent, answer| {
            ensure!(
                answer[0] == kind && answer.len().abs_diff(length) < 24,
                "{}",
                String::from_utf8_lossy(answer)
            );
            latencies.saturating_record(sent.elapsed().as_nanos() as u64);
            answered += 1;
            Ok(())
        })?;
        if !more {
            return Ok(());
        }
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        connection.send(&self.request, answered)
    }

    /// The connections that have something to read.
    fn ready(&self) -> anyhow::Result<Vec<usize>> {
        if self.connections.len() == 1 {
            return Ok(vec![0]); // its read waits
        }
        let mut polled: Vec<_> = self
            .connections
            .iter()
            .map(|connection| PollFd::new(&connection.stream, PollFlags::IN))
            .collect();
        poll(&mut polled, None)?;
        let ready = polled.iter().enumerate().filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(index, _)| index).collect())
    }
}

impl Subject for Load {
    fn name(&self) -> &str {
        &self.name
    }

    fn processes(&self) -> Vec<Process> {
        (self.processes)()
    }

    fn work(&mut self, time: Duration) -> anyhow::Result<Histogram<u64>> {
        let mut latencies = histogram();
        let until = Instant::now() + time;
        for connection in &mut self.connections {
            connection.send(&self.request, self.depth)?;
        }
        while self.connections.iter().any(|connection| !connection.sent.is_empty()) {
            let more = Instant::now() < until;
            for index in self.ready()? {
                self.turn(index, &mut latencies, more)?;
            }
        }
        Ok(latencies)
    }
}

impl Connection {
    fn open(socket: &Path) -> anyhow::Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("{}", socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream, buffer: Vec::new(), sent: VecDeque::new() })
    }

    fn call(&mut self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.send(request, 1)?;
        let mut first = Vec::new();
        while first.is_empty() {
            self.receive(|_, answer| {
                first = answer.to_vec();
                Ok(())
            })?;
        }
        Ok(first)
    }

    /// Sends the request `times` times, in one write.
    fn send(&mut self, request: &[u8], times: usize) -> anyhow::Result<()> {
        if times == 0 {
            return Ok(());
        }
        self.sent.extend(std::iter::repeat_n(Instant::now(), times));
        match times {
            1 => self.stream.write_all(request)?,
            _ => self.stream.write_all(&request.repeat(times))?,
        }
        Ok(())
    }

    /// Reads once, and gives every whole answer to `each`.
    fn receive(
        &mut self,
        mut each: impl FnMut(Instant, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut chunk = [0; 16 * 1024];
        let read = self.stream.read(&mut chunk)?;
        ensure!(read > 0, "the connection was closed");
        self.buffer.extend_from_slice(&chunk[..read]);
        let mut taken = 0;
        while let Some((length, rest)) = self.buffer[taken..].split_first_chunk::<LENGTH_FIELD>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some(answer) = rest.get(..length) else { break };
            let sent = self.sent.pop_front().context("an answer to nothing")?;
            each(sent, answer)?;
            taken += LENGTH_FIELD + length;
        }
        self.buffer.drain(..taken);
        Ok(())
    }
}

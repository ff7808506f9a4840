//! Holds the requests of one connection that are under way: they start in order, run together, and
//! are answered in order.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::frame::Answer;
use super::spare_buffers;

/// Memory in which a request runs, some kilobytes. It is used for one request after the other.
type RequestMemory<F> = Pin<Box<Option<F>>>;

enum RequestInFlight<F> {
    Answered(Answer),
    Running {
        place: RequestMemory<F>,
        /// It ran in this turn already. If something happens to it now, its task is woken again.
        just_begun: bool,
    },
}

/// A queue of requests. The first one is the oldest that the client has no answer to.
pub(crate) struct InFlight<F> {
    requests: VecDeque<(RequestInFlight<F>, usize)>,
    /// Sum of the bytes that all `requests` count.
    bytes: usize,
    /// Empty places. An idle connection keeps one.
    free: Vec<RequestMemory<F>>,
}

impl<F: Future<Output = Answer>> InFlight<F> {
    pub(crate) const fn new() -> Self {
        Self { requests: VecDeque::new(), bytes: 0, free: Vec::new() }
    }

    /// Begins a request that counts `bytes`, and runs it at once. The caller must call
    /// [`Self::answers`] before its task waits.
    pub(crate) fn begin(&mut self, bytes: usize, answer: F, context: &mut Context<'_>) {
        let mut place = self.free.pop().unwrap_or_else(|| Box::pin(None));
        place.set(Some(answer));
        let request = match run(&mut place, context) {
            Poll::Ready(answer) => {
                self.free.push(place);
                RequestInFlight::Answered(answer)
            }
            Poll::Pending => RequestInFlight::Running { place, just_begun: true },
        };
        self.requests.push_back((request, bytes));
        self.bytes += bytes;
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Runs all requests until the oldest is answered. Appends its answer, and the answers of the
    /// requests after it that are ready.
    pub(crate) async fn answers(&mut self, output: &mut Vec<u8>) {
        poll_fn(|context| self.poll_answers(context, output)).await;
    }

    fn poll_answers(&mut self, context: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<()> {
        for (request, _) in &mut self.requests {
            let RequestInFlight::Running { place, just_begun } = request else { continue };
            if std::mem::take(just_begun) {
                continue;
            }
            if let Poll::Ready(answer) = run(place, context)
                && let RequestInFlight::Running { place, .. } =
                    std::mem::replace(request, RequestInFlight::Answered(answer))
            {
                self.free.push(place);
            }
        }
        let mut result = Poll::Pending;
        while let Some((RequestInFlight::Answered(answer), bytes)) = self.requests.front() {
            if output.capacity() == 0 {
                *output = spare_buffers::take();
            }
            output.extend_from_slice(answer.as_bytes());
            self.bytes -= bytes;
            self.requests.pop_front();
            result = Poll::Ready(());
        }
        if self.requests.is_empty() {
            self.free.truncate(1);
        }
        result
    }
}

/// Runs the request in this place as far as it goes. The place is empty once there is an answer.
fn run<F: Future<Output = Answer>>(
    place: &mut RequestMemory<F>,
    context: &mut Context<'_>,
) -> Poll<Answer> {
    let Some(running) = place.as_mut().as_pin_mut() else { return Poll::Pending };
    let polled = running.poll(context);
    if polled.is_ready() {
        place.set(None);
    }
    polled
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test(flavor = "current_thread")]
    async fn answers_keep_the_order_of_requests_whatever_finishes_first() {
        let (finish_first, first) = oneshot::channel::<()>();
        let mut first = Some(first);
        let mut in_flight = InFlight::new();
        let answer = |waits_for: Option<oneshot::Receiver<()>>| async {
            let Some(waits_for) = waits_for else { return Answer::failure() };
            waits_for.await.expect("sent below");
            Answer::error("first@countersign", "internal", "")
        };
        let mut output = Vec::new();
        let nothing_yet = poll_fn(|context| {
            in_flight.begin(10, answer(Some(first.take().expect("polled once"))), context);
            in_flight.begin(20, answer(None), context);
            Poll::Ready(in_flight.poll_answers(context, &mut output))
        });
        let nothing_yet = nothing_yet.await;
        assert!(nothing_yet.is_pending() && output.is_empty());
        assert_eq!((in_flight.len(), in_flight.bytes()), (2, 30));

        finish_first.send(()).expect("the request waits");
        in_flight.answers(&mut output).await;
        assert!(output.ends_with(Answer::failure().as_bytes()), "the second answer comes last");
        assert!(output.len() > Answer::failure().as_bytes().len(), "and the first came with it");
        assert_eq!((in_flight.len(), in_flight.bytes(), in_flight.free.len()), (0, 0, 1));
    }
}

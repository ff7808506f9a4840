//! The requests of one connection that are being answered: started in order, run together, answered in order.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::frame::Answer;
use crate::spare;

/// Where a request runs; its memory, some kilobytes, serves one request after the other.
type Place<F> = Pin<Box<Option<F>>>;

enum Request<F> {
    Answered(Answer),
    Running(Place<F>),
}

/// A queue whose front is the oldest request not yet answered to the client.
pub(crate) struct InFlight<F> {
    requests: VecDeque<(Request<F>, usize)>,
    /// What the payloads of all `requests` take, in bytes.
    bytes: usize,
    /// Empty. A connection that is idle keeps one.
    free: Vec<Place<F>>,
}

impl<F: Future<Output = Answer>> InFlight<F> {
    pub(crate) const fn new() -> Self {
        Self { requests: VecDeque::new(), bytes: 0, free: Vec::new() }
    }

    /// Queues a request of `bytes`; it starts at the next poll.
    pub(crate) fn push(&mut self, bytes: usize, answer: F) {
        let mut place = self.free.pop().unwrap_or_else(|| Box::pin(None));
        place.set(Some(answer));
        self.requests.push_back((Request::Running(place), bytes));
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

    /// Runs all requests until the oldest is answered; appends it and every other answer that may follow it.
    pub(crate) async fn answers(&mut self, output: &mut Vec<u8>) {
        poll_fn(|context| self.poll_answers(context, output)).await;
    }

    fn poll_answers(&mut self, context: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<()> {
        for (request, _) in &mut self.requests {
            if let Request::Running(place) = request
                && let Some(running) = place.as_mut().as_pin_mut()
                && let Poll::Ready(answer) = running.poll(context)
            {
                place.set(None);
                if let Request::Running(place) = std::mem::replace(request, Request::Answered(answer)) {
                    self.free.push(place);
                }
            }
        }
        let mut result = Poll::Pending;
        while let Some((Request::Answered(answer), bytes)) = self.requests.front() {
            if output.capacity() == 0 {
                *output = spare::take();
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test(flavor = "current_thread")]
    async fn answers_keep_the_order_of_requests_whatever_finishes_first() {
        let (finish_first, first) = oneshot::channel::<()>();
        let mut in_flight = InFlight::new();
        let answer = |waits_for: Option<oneshot::Receiver<()>>| async {
            let Some(waits_for) = waits_for else { return Answer::failure() };
            waits_for.await.expect("sent below");
            Answer::error("first@countersign", "internal", "")
        };
        in_flight.push(10, answer(Some(first)));
        in_flight.push(20, answer(None));
        let mut output = Vec::new();
        let nothing_yet = poll_fn(|context| Poll::Ready(in_flight.poll_answers(context, &mut output))).await;
        assert!(nothing_yet.is_pending() && output.is_empty());
        assert_eq!((in_flight.len(), in_flight.bytes()), (2, 30));

        finish_first.send(()).expect("the request waits");
        in_flight.answers(&mut output).await;
        assert!(output.ends_with(Answer::failure().as_bytes()), "the second answer comes last");
        assert!(output.len() > Answer::failure().as_bytes().len(), "and the first came with it");
        assert_eq!((in_flight.len(), in_flight.bytes(), in_flight.free.len()), (0, 0, 1));
    }
}

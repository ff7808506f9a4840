//! The requests of one connection that are being answered: started in order, run together, answered in order.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::frame::Answer;

enum Request {
    Answered(Answer),
    Running(Pin<Box<dyn Future<Output = Answer>>>),
}

/// A queue whose front is the oldest request not yet answered to the client.
#[derive(Default)]
pub(crate) struct InFlight {
    requests: VecDeque<(Request, usize)>,
    /// What the payloads of all `requests` take, in bytes.
    bytes: usize,
}

impl InFlight {
    /// Queues a request of `bytes`; it starts at the next poll.
    pub(crate) fn push(&mut self, bytes: usize, answer: impl Future<Output = Answer> + 'static) {
        self.requests.push_back((Request::Running(Box::pin(answer)), bytes));
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
            if let Request::Running(future) = request
                && let Poll::Ready(answer) = future.as_mut().poll(context)
            {
                *request = Request::Answered(answer);
            }
        }
        let mut result = Poll::Pending;
        while let Some((Request::Answered(answer), bytes)) = self.requests.front() {
            output.extend_from_slice(answer.as_bytes());
            self.bytes -= bytes;
            self.requests.pop_front();
            result = Poll::Ready(());
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
        let mut in_flight = InFlight::default();
        in_flight.push(10, async move {
            first.await.expect("sent below");
            Answer::error("first@countersign", "internal", "")
        });
        in_flight.push(20, async { Answer::failure() });
        let mut output = Vec::new();
        let nothing_yet = poll_fn(|context| Poll::Ready(in_flight.poll_answers(context, &mut output))).await;
        assert!(nothing_yet.is_pending() && output.is_empty());
        assert_eq!((in_flight.len(), in_flight.bytes()), (2, 30));

        finish_first.send(()).expect("the request waits");
        in_flight.answers(&mut output).await;
        assert!(output.ends_with(Answer::failure().as_bytes()), "the second answer comes last");
        assert!(output.len() > Answer::failure().as_bytes().len(), "and the first came with it");
        assert_eq!((in_flight.len(), in_flight.bytes()), (0, 0));
    }
}

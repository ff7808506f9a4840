//! Answers the questions of the admin socket, which only the operator may ask.

use std::os::fd::OwnedFd;
use std::time::Duration;

use countersign_core::explain::explain;
use countersign_core::record::{Locking, Record};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::wire::admin::{
    self, DoneReply, EventsReply, EventsRequest, ExplainReply, ExplainRequest, Register,
};
use countersign_core::wire::{self, VERSION};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::{done, plain, reply};
use super::key_change::KeyChanges;
use super::pending_list::PendingList;
use crate::front::Front;
use crate::sockets::frame::Answer;
use crate::sockets::peer::Peer;
use crate::waiting::reload::{Loaded, Reload};

/// Longest wait of one `events` call.
const LONGEST_EVENTS_WAIT: Duration = Duration::from_secs(60);

/// The extensions that `query` lists on the admin socket.
pub(crate) const EXTENSIONS: &[&str] = &[
    admin::APPROVE,
    admin::DENY,
    admin::EVENTS,
    admin::EXPLAIN,
    wire::KEYS,
    admin::LOCK,
    admin::PENDING,
    admin::REGISTER,
    admin::RELOAD,
    wire::STATUS,
    admin::UNLOCK,
];

impl Front {
    /// Answers an extension on the admin socket.
    pub(crate) async fn operate(
        &self,
        peer: &Peer,
        name: &str,
        payload: &[u8],
        descriptor: Option<OwnedFd>,
    ) -> Answer {
        if !self.is_operator(peer) {
            let message = "the admin socket serves the agent's own user and root only";
            return Answer::error(name, Code::ClientUnknown.name(), message);
        }
        let uid = peer.uid.unwrap_or_default();
        match name {
            admin::APPROVE => reply(name, self.approve(payload, uid).await),
            admin::DENY => reply(name, self.deny(payload)),
            admin::EVENTS => reply(name, self.events(peer, payload).await),
            admin::EXPLAIN => reply(name, self.explain(payload)),
            admin::LOCK => reply(name, plain(payload).and_then(|()| self.lock(uid))),
            admin::PENDING => reply(name, PendingList::of(self).answer(payload)),
            admin::REGISTER => reply(name, self.parse_register(payload, descriptor, peer).await),
            admin::RELOAD => reply(name, self.ask_reload(payload, uid).await),
            admin::UNLOCK => reply(name, plain(payload).and_then(|()| self.unlock(uid))),
            wire::KEYS => reply(name, plain(payload).map(|()| self.keys(&self.keyring.names()))),
            wire::STATUS => reply(name, plain(payload).map(|()| self.status_for_operator())),
            _ => Answer::failure(),
        }
    }

    fn explain(&self, payload: &[u8]) -> Result<ExplainReply, Refusal> {
        let asked: ExplainRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        let config = self.config();
        let client = config.policy.client(&asked.client).ok_or_else(|| {
            Refusal::new(
                Code::ClientUnknown,
                format!("agent.toml has no [client.{}]", asked.client),
            )
        })?;
        let key = self.keyring.to_explain(&asked.key)?;
        explain(&config.policy, client, &key, asked)
    }

    /// Each page takes a turn of its own, so that a caller that follows the journal does not delay
    /// a `lock`.
    async fn events(&self, peer: &Peer, payload: &[u8]) -> Result<EventsReply, Refusal> {
        let asked: EventsRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        let deadline =
            Instant::now() + Duration::from_millis(asked.wait_ms).min(LONGEST_EVENTS_WAIT);
        let mut stop = self.stopper.1.clone();
        let mut stopped = std::pin::pin!(stop.requested());
        loop {
            // The wait begins before the journal is read, so that no record is missed in between.
            let written = self.recorder.next_written(deadline);
            let (records, last) = self.recorder.records_after(asked.after)?;
            let goes_on = records.is_empty()
                && tokio::select! {
                    written = written => written,
                    () = &mut stopped => false,
                };
            if !goes_on {
                return Ok(EventsReply { v: VERSION, records, last });
            }
            peer.turn().await;
        }
    }

    fn lock(&self, uid: u32) -> Result<DoneReply, Refusal> {
        // The agent is locked from here on, even if the lock cannot be kept or recorded.
        self.locked.set(true);
        self.forget_unlocking();
        self.keep_locked(true).map_err(|refusal| {
            but("locked: nothing is signed from now on, but a restart would forget it", refusal)
        })?;
        let locked = "locked: nothing is signed until `countersign unlock`, also after a restart";
        let later =
            "the disk of the journal is full, and the record of it is written when there is room";
        let recorded = self.recorder.synced_or_held_back(&Record::Locked(Locking { uid }));
        match recorded.map_err(|refusal| but(&format!("{locked}; it is not on record"), refusal))? {
            true => Ok(done(format!("{locked}; {later}"))),
            false => Ok(done(locked)),
        }
    }

    pub(crate) fn unlock_now(&self, uid: u32) -> Result<DoneReply, Refusal> {
        self.recorder.synced(&Record::Unlocked(Locking { uid }))?;
        self.keep_locked(false)?;
        self.locked.set(false);
        Ok(done("unlocked"))
    }

    fn keep_locked(&self, locked: bool) -> Result<(), Refusal> {
        self.recorder.keep_locked(locked).map_err(|error| {
            Refusal::new(
                Code::LedgerUnavailable,
                format!("the lock could not be written to the state directory: {error}"),
            )
        })
    }

    async fn ask_reload(&self, payload: &[u8], uid: u32) -> Result<DoneReply, Refusal> {
        plain(payload)?;
        let (answer, outcome) = oneshot::channel();
        let stopping = || Refusal::new(Code::Internal, "the agent is stopping");
        self.reload.send(Reload::FromFile(uid, answer)).await.map_err(|_| stopping())?;
        match outcome.await.map_err(|_| stopping())? {
            Ok(Loaded::InForce(summary)) => {
                Ok(done(format!("the configuration is in force: {summary}")))
            }
            Ok(Loaded::Waits(pending)) => {
                let sentence = "the configuration loosens something and is not in force before an \
                                approver agrees: countersign";
                Ok(DoneReply {
                    pending: Some(pending.clone()),
                    ..done(format!("{sentence} approve {}", pending.id))
                })
            }
            Err(reason) => {
                Err(Refusal::malformed(format!("the configuration was not loaded: {reason}")))
            }
        }
    }

    async fn parse_register(
        &self,
        payload: &[u8],
        descriptor: Option<OwnedFd>,
        peer: &Peer,
    ) -> Result<DoneReply, Refusal> {
        let asked: Register = wire::parse(payload)?;
        KeyChanges::of(self).register(asked, descriptor, peer).await
    }
}

/// Puts `done`, the part that was done all the same, in front of the refusal's message.
fn but(done: &str, refusal: Refusal) -> Refusal {
    Refusal::new(refusal.code, format!("{done}: {}", refusal.message))
}

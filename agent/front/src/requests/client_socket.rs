//! Turns each message of a connection into one call of the core, and the answer into one frame.

use std::rc::Rc;

use countersign_base::config::Config;
use countersign_base::config::listener::ListenerKind;
use countersign_core::key::KeyName;
use countersign_core::ports::{Caller, Clock, Ledger, RefusedRequest};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::signer::{Answered, Progress};
use countersign_core::wire::{self, AGENT_EXTENSIONS, ErrorReply, KeysReply, VERSION};

use super::answer::{json, plain, reply};
use super::status::{identities_of, key_entry};
use crate::front::Front;
use crate::sockets::connection::Handler;
use crate::sockets::frame::{Answer, Incoming};
use crate::sockets::peer::Peer;
use crate::sockets::turns::Party;

/// The handler of every connection.
#[derive(Debug)]
pub struct RequestHandler(pub Rc<Front>);

impl Handler for RequestHandler {
    fn knows(&self, peer: &Peer) -> bool {
        self.0.is_operator(peer) || self.0.client(&self.0.config(), peer).is_some()
    }

    fn party(&self, peer: &Peer) -> Party {
        match self.0.client(&self.0.config(), peer) {
            Some(client) => Party::Client(client.name.clone()),
            None if self.0.is_operator(peer) => Party::Operator,
            None => Party::Uid(peer.uid),
        }
    }

    fn connected(&self, peer: &Peer) {
        self.0.approvals.connected(peer);
    }

    fn disconnected(&self, peer: &Peer) {
        self.0.approvals.disconnected(peer);
    }

    async fn handle(&self, peer: &Peer, incoming: Incoming) -> Answer {
        match incoming {
            Incoming::Refused(_) => Answer::failure(),
            Incoming::RequestIdentities => match self.0.may_ask_more(peer, "") {
                Ok(()) => self.0.identities(peer),
                Err(_) => Answer::failure(),
            },
            Incoming::Oversized { name, .. } if self.0.may_ask_more(peer, "").is_err() => {
                Answer::error(
                    &name,
                    Code::PolicyRate.name(),
                    "too many messages that are not judged",
                )
            }
            Incoming::Oversized { name, length } => {
                let message =
                    format!("the payload has {length} bytes, more than {}", wire::MAX_PAYLOAD);
                Answer::error(&name, Code::RequestMalformed.name(), &message)
            }
            Incoming::Extension { name, .. }
                if name == "query" && self.0.may_ask_more(peer, &name).is_err() =>
            {
                Answer::failure()
            }
            Incoming::Extension { name, .. } if name == "query" => Answer::query(&extensions(peer)),
            Incoming::Extension { name, payload, descriptor } => match peer.listener {
                ListenerKind::Admin => self.0.operate(peer, &name, &payload, descriptor).await,
                ListenerKind::Agent | ListenerKind::Client(_) => {
                    self.0.serve(peer, &name, &payload).await
                }
            },
        }
    }
}

/// True for the messages that a client's `rate` counts: those that policy judges, with any outcome.
fn is_judged(name: &str) -> bool {
    name == wire::SIGN || name == wire::SESSION
}

fn extensions(peer: &Peer) -> Vec<&'static str> {
    match peer.listener {
        ListenerKind::Admin => super::admin_socket::EXTENSIONS.to_vec(),
        ListenerKind::Agent | ListenerKind::Client(_) => AGENT_EXTENSIONS.to_vec(),
    }
}

impl Front {
    /// Answers an extension on a client's socket.
    async fn serve(self: &Rc<Self>, peer: &Peer, name: &str, payload: &[u8]) -> Answer {
        if !AGENT_EXTENSIONS.contains(&name) {
            return Answer::failure();
        }
        let config = self.config();
        let caller = |client: &str| Caller {
            client: client.to_owned(),
            uid: peer.uid.unwrap_or(u32::MAX),
            pid: peer.pid.and_then(|pid| pid.try_into().ok()),
        };
        let Some(client) = self.client(&config, peer) else {
            return self.unknown_client(name, &caller("")).await;
        };
        if let Err(refusal) = self.may_ask_more(peer, name) {
            return json(name, &ErrorReply::new(&refusal, None));
        }
        let place =
            if is_judged(name) { Some(self.budgets.place(peer, &client.name).await) } else { None };
        // A request that had to wait goes on in another turn.
        if place.is_some() && self.recorder.slow(&client.name).await {
            peer.turn().await;
        }
        // The configuration that is in force now: it may be tighter than when the message came.
        let config = self.config();
        let Some(client) = self.client(&config, peer) else {
            return self.unknown_client(name, &caller("")).await;
        };
        let caller = caller(&client.name);
        let signer = self.signer(&config.policy, client, &caller);
        match name {
            wire::SIGN => {
                let answered = signer.sign(&self.keyring, payload).await;
                self.progress(name, peer, &config, answered, Answer::signed)
            }
            wire::SESSION => {
                let answered = signer.session(&self.keyring, payload).await;
                self.progress(name, peer, &config, answered, Answer::json)
            }
            wire::RESULT => reply(name, self.result(client, payload).await),
            wire::CANCEL => reply(name, self.cancel(client, payload)),
            wire::KEYS => reply(name, plain(payload).map(|()| self.keys(&client.keys))),
            wire::STATUS => reply(name, plain(payload).map(|()| self.status_for_client(client))),
            _ => Answer::failure(),
        }
    }

    /// Counts a message against the client's budget, unless `rate` counts it. `cancel` is never
    /// refused.
    fn may_ask_more(&self, peer: &Peer, name: &str) -> Result<(), Refusal> {
        let config = self.config();
        match self.client(&config, peer) {
            Some(client) if !is_judged(name) && name != wire::CANCEL => {
                self.budgets.take_unjudged(client, self.clock.since_boot_ms())
            }
            _ => Ok(()),
        }
    }

    /// Answers with the signature, as `finished` writes it, or with the id of a request that waits
    /// for persons.
    fn progress<T>(
        self: &Rc<Self>,
        name: &str,
        peer: &Peer,
        config: &Rc<Config>,
        answered: Answered<Progress<T>>,
        finished: impl FnOnce(&str, &T) -> Answer,
    ) -> Answer {
        match answered.outcome {
            Ok(Progress::Finished(reply)) => finished(name, &reply),
            Ok(Progress::Waiting(waiting)) => json(name, &self.open(peer, config, waiting)),
            Err(refusal) => json(name, &ErrorReply::new(&refusal, Some(answered.request_id))),
        }
    }

    async fn unknown_client(&self, name: &str, caller: &Caller) -> Answer {
        let request_id = self.clock.request_id();
        let message = match caller.uid {
            u32::MAX => {
                "this user has no uid in the agent's user namespace: see PrivateUsers= of its unit"
                    .to_owned()
            }
            uid => format!("uid {uid} is no client of this socket"),
        };
        let refusal = Refusal::new(Code::ClientUnknown, message);
        let refused = RefusedRequest {
            request_id: &request_id,
            caller,
            key: "",
            endpoint: name,
            refusal: &refusal,
        };
        let recorded = match self.recorder.refused(&refused) {
            Ok(()) => self.recorder.written().await,
            Err(fault) => Err(fault),
        };
        let refusal = recorded.err().unwrap_or(refusal);
        json(name, &ErrorReply::new(&refusal, Some(request_id)))
    }

    fn identities(&self, peer: &Peer) -> Answer {
        let config = self.config();
        let keys = self.client(&config, peer).map(|client| identities_of(&self.keyring, client));
        Answer::identities(keys.unwrap_or_default())
    }

    /// Describes the keys of these names. Names without a key are left out.
    pub(crate) fn keys<'a>(&self, names: impl IntoIterator<Item = &'a KeyName>) -> KeysReply {
        let entry = |name| key_entry(&self.keyring, &self.tokens, &self.recorder, name);
        KeysReply { v: VERSION, keys: names.into_iter().filter_map(entry).collect() }
    }
}

//! A configuration that is sound.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use countersign_core::policy::{Client, Policy};

use super::agent::AgentSettings;
use super::approver::Approver;
use super::endpoint::{Endpoint, ListenerKind};
use super::token::TokenConfig;

/// A whole configuration. It is never changed: a reload puts another in its place.
#[derive(Clone, Debug)]
pub struct Config {
    pub agent: AgentSettings,
    pub tokens: Vec<TokenConfig>,
    pub policy: Policy,
    /// By client; a client that is not here uses the agent's socket.
    pub client_sockets: BTreeMap<String, PathBuf>,
    pub approvers: Vec<Approver>,
    /// What the operator should know, one sentence each.
    pub warnings: Vec<String>,
    /// The file as it was read, to compare a later one with.
    pub text: String,
}

impl Config {
    /// The clients that are known by their uid alone.
    pub fn clients_on_agent_socket(&self) -> impl Iterator<Item = &Client> {
        self.policy.clients.iter().filter(|client| !self.client_sockets.contains_key(&client.name))
    }

    /// Every socket to listen on.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint = |path: &Path, kind| Endpoint { path: path.to_owned(), kind };
        let clients = self
            .client_sockets
            .iter()
            .map(|(name, path)| endpoint(path, ListenerKind::Client(name.clone())));
        let own = [
            endpoint(&self.agent.socket, ListenerKind::Agent),
            endpoint(&self.agent.admin_socket, ListenerKind::Admin),
        ];
        own.into_iter().chain(clients).collect()
    }

    /// What is in it, on one line.
    pub fn summary(&self) -> String {
        let count = |number: usize, one: &str| {
            if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
        };
        let Policy { clients, destinations, transfers, .. } = &self.policy;
        [
            count(self.tokens.len(), "token"),
            count(clients.len(), "client"),
            count(self.approvers.len(), "approver"),
            count(destinations.len(), "destination"),
            count(transfers.len(), "transfer rule"),
        ]
        .join(", ")
    }
}

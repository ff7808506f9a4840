//! A configuration without problems.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use countersign_core::policy::{Client, Policy};

use super::agent::AgentSettings;
use super::approver::ApproverConfig;
use super::listener::{ListenerConfig, ListenerKind};
use super::token::TokenConfig;

/// A whole configuration. It is never changed: a reload puts another in its place.
#[derive(Clone, Debug)]
pub struct Config {
    pub agent: AgentSettings,
    pub tokens: Vec<TokenConfig>,
    pub policy: Policy,
    /// Sockets of clients, by the client's name. A client that is not here uses the agent's socket.
    pub client_sockets: BTreeMap<String, PathBuf>,
    pub approvers: Vec<ApproverConfig>,
    /// Warnings for the operator, one sentence each.
    pub warnings: Vec<String>,
    /// The text of the file, to compare a later one with.
    pub text: String,
}

impl Config {
    /// The clients that are known by their uid alone.
    pub fn clients_on_agent_socket(&self) -> impl Iterator<Item = &Client> {
        self.policy.clients.iter().filter(|client| !self.client_sockets.contains_key(&client.name))
    }

    /// Every socket to listen on.
    pub fn endpoints(&self) -> Vec<ListenerConfig> {
        let endpoint = |path: &Path, kind| ListenerConfig { path: path.to_owned(), kind };
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

    /// The number of tokens, clients and other sections, on one line.
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

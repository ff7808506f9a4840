//! Reads `[agent]`: the agent's directories and sockets, and the weaknesses that it tolerates.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::facts::SystemFacts;
use super::fields::Fields;
use super::value;
use crate::messages::confinement::Demand;

const DEFAULT_STATE_DIR: &str = "/var/lib/countersign";
const DEFAULT_APPROVAL_TIMEOUT_S: u32 = 120;
/// Longest time that approvers may be given, in seconds.
pub const LONGEST_APPROVAL_S: u32 = 3600;

/// The settings of `[agent]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentSettings {
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    pub admin_socket: PathBuf,
    pub approval_timeout: Duration,
    pub allow_software_tokens: bool,
    pub allow_same_user: bool,
    /// True if every record must be on the disk before the token is asked, also records of `read`
    /// and `trade`.
    pub synced: bool,
    pub confinement: Demand,
    /// Directory of the vaults, if they are not below `state_dir`. A user of their own writes to
    /// it.
    pub vault_dir: Option<PathBuf>,
    /// Socket on which the spawner of that user listens.
    pub vault_socket: Option<PathBuf>,
}

/// Places in the file that name the two sockets, if it names them.
#[derive(Debug, Default)]
pub(super) struct AgentSpans {
    pub(super) socket: Option<Range<usize>>,
    pub(super) admin_socket: Option<Range<usize>>,
}

impl AgentSettings {
    pub(super) fn default_of(facts: &SystemFacts) -> Self {
        Self {
            state_dir: PathBuf::from(DEFAULT_STATE_DIR),
            admin_socket: admin_socket_beside(&facts.socket, facts),
            socket: facts.socket.clone(),
            approval_timeout: Duration::from_secs(DEFAULT_APPROVAL_TIMEOUT_S.into()),
            allow_software_tokens: false,
            allow_same_user: false,
            synced: false,
            confinement: Demand::Available,
            vault_dir: None,
            vault_socket: None,
        }
    }

    pub(super) fn read(mut fields: Fields<'_>, facts: &SystemFacts) -> (Self, AgentSpans) {
        let default = Self::default_of(facts);
        let spans =
            AgentSpans { socket: fields.span("socket"), admin_socket: fields.span("admin_socket") };
        let socket = fields.optional("socket", value::socket).unwrap_or(default.socket);
        let admin_socket = fields.optional("admin_socket", value::socket);
        let demands = Demand::ALL.map(|demand| (demand.name(), demand));
        let durabilities = [("synced", true), ("written", false)];
        let settings = Self {
            state_dir: fields.optional("state_dir", value::path).unwrap_or(default.state_dir),
            admin_socket: admin_socket.unwrap_or_else(|| admin_socket_beside(&socket, facts)),
            socket,
            approval_timeout: fields
                .optional("approval_timeout_s", |value, problems| {
                    value::integer(value, 1..=LONGEST_APPROVAL_S, problems)
                })
                .map_or(default.approval_timeout, |seconds| Duration::from_secs(seconds.into())),
            allow_software_tokens: fields
                .optional("allow_software_tokens", value::boolean)
                .unwrap_or(false),
            allow_same_user: fields.optional("allow_same_user", value::boolean).unwrap_or(false),
            synced: fields
                .optional("durability", |value, problems| {
                    value::one_of(value, &durabilities, problems)
                })
                .unwrap_or(false),
            confinement: fields
                .optional("confinement", |value, problems| value::one_of(value, &demands, problems))
                .unwrap_or_default(),
            vault_dir: fields.optional("vault_dir", value::path),
            vault_socket: fields.optional("vault_socket", value::socket),
        };
        fields.finish();
        (settings, spans)
    }

    /// True if the two differ in a setting that a running agent cannot change.
    pub fn needs_restart(&self, before: &Self) -> bool {
        self.state_dir != before.state_dir
            || self.socket != before.socket
            || self.admin_socket != before.admin_socket
            || self.synced != before.synced
            || self.confinement != before.confinement
            || self.vault_dir != before.vault_dir
            || self.vault_socket != before.vault_socket
    }
}

fn admin_socket_beside(socket: &Path, facts: &SystemFacts) -> PathBuf {
    facts.admin_socket.clone().unwrap_or_else(|| socket.with_file_name("admin.sock"))
}

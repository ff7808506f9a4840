//! Opens the connection for commands that both sockets answer.

use countersign::{Admin, AgentClient, Connection, Error, Sockets};

/// Opens the admin socket if this user may use it, else the agent socket. Both answer questions
/// about keys and state.
pub(super) fn operator_or_client(sockets: &Sockets) -> Result<AgentClient, Error> {
    match Admin::open(sockets) {
        Ok(admin) => Ok(admin.into_client()),
        Err(error) if error.is_not_reachable() => {
            Connection::open(&sockets.agent).map(AgentClient::over)
        }
        Err(error) => Err(error),
    }
}

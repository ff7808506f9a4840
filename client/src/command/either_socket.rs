//! The connection of commands that both sockets answer.

use countersign::{Admin, Client, Connection, Error, Sockets};

/// The operator's socket where this user may use it, else the agent's: both tell of keys and state.
pub(super) fn operator_or_client(sockets: &Sockets) -> Result<Client, Error> {
    match Admin::open(sockets) {
        Ok(admin) => Ok(admin.into_client()),
        Err(error) if error.is_not_reachable() => {
            Connection::open(&sockets.agent).map(Client::over)
        }
        Err(error) => Err(error),
    }
}

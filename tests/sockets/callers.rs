//! The caller of a socket is known by its uid, and gets what that socket serves.

use std::fs;

use countersign::{Admin, Sockets};
use countersign_core::refusal::Code;

use crate::harness::agent::{Agent, BOT, code};
use crate::harness::byte_client::ByteClient;
use crate::harness::served::{Served, quick};

#[test]
fn a_connection_knows_its_uid_and_its_socket() {
    let served = Served::start(quick());
    let own = rustix::process::getuid().as_raw();
    for (socket, kind) in
        [("agent.sock", "Agent"), ("bot.sock", "Client(\"bot\")"), ("admin.sock", "Admin")]
    {
        let mut client = ByteClient::connect(&served.path(socket));
        assert_eq!(client.ask("who@countersign", ""), format!("Some({own}) {kind} false"));
    }
}

#[test]
fn only_the_operator_is_served_on_the_admin_socket() {
    let agent = Agent::with_binance(BOT);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(agent.path().join("admin.sock")).expect("a socket").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert!(agent.admin().pending().is_ok());
    // The client's socket knows no operator's message.
    let sockets =
        Sockets { agent: agent.path().join("agent.sock"), admin: agent.path().join("agent.sock") };
    assert!(Admin::open(&sockets).expect("connects").lock().is_err());
}

#[test]
fn a_client_without_a_name_gets_nothing() {
    let agent = Agent::start("keys = []\nscopes = [\"read\"]\nsocket = \"DIR/bot.sock\"\n", "");
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Some(Code::ClientUnknown)
    );
}

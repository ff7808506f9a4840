//! Approvals by OpenSSH's own programs.

use std::sync::Arc;

use countersign::ssh_agent::ApproverError;
use countersign_core::audit;
use countersign_core::key::Tier;
use countersign_core::scope::Scope;
use countersign_front::ledger::segment::SegmentDir;
use countersign_front::ledger::storage::Disk;

use crate::harness::agent::Launch;
use crate::harness::openssh_agent::OpenSsh;
use crate::harness::softhsm::SoftHsm;
use crate::harness::withdrawing::{agent_on, ask, result};

#[test]
fn keys_of_opensshs_own_agent_approve_by_touch_and_by_nothing_else() {
    let openssh = OpenSsh::start();
    let (alice, bob) =
        (openssh.key("alice", "ed25519-sk", &[]), openssh.key("bob", "ecdsa-sk", &[]));
    let careless = openssh.key("careless", "ed25519-sk", &["-O", "no-touch-required"]);
    let approvers = [("alice", alice), ("bob", bob), ("careless", careless)];
    let agent = agent_on(SoftHsm::new(), Launch::default(), &approvers, "");
    let (mut client, mut admin) = (agent.client(), agent.admin());
    let pending = ask(&mut client, "1.5");
    let shown = admin.pending().expect("answered");
    assert_eq!(
        (shown.pending[0].tier, shown.pending[0].rung),
        (Tier::Software, 3),
        "policy, not hardware"
    );

    // Nobody touches it.
    let untouched = openssh.sign("alice", &shown, &pending.id).expect_err("no finger");
    assert!(matches!(untouched, ApproverError::NotSigned { .. }), "{untouched}");
    // A key that needs no touch signs, and its signature approves nothing.
    let without_touch =
        openssh.sign("careless", &shown, &pending.id).expect("signed without a finger");
    let refused = admin.approve(&pending.id, &without_touch).expect_err("no approval").to_string();
    assert!(refused.contains("without a touch"), "{refused}");
    assert_eq!(agent.journal().matches("\"kind\":\"approval\"").count(), 0);

    // Two persons touch their keys. The counters of both keys are zero.
    openssh.finger(true);
    for approver in ["alice", "bob"] {
        let sshsig = openssh.sign(approver, &shown, &pending.id).expect("touched");
        admin.approve(&pending.id, &sshsig).expect("approved");
    }
    let reply = result(&mut client, &pending.id).expect("signed");
    assert_eq!(reply.scope, Scope::Withdraw);
    let segments = SegmentDir::new(Arc::new(Disk), &agent.state_dir());
    let report = audit::verify(&segments, None, &mut |_, _| {}).expect("read");
    assert_eq!(report.problems, []);
}

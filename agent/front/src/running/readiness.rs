//! Tells when the agent is ready, and makes the line that the service manager shows.

use std::rc::Rc;

use crate::front::Front;
use crate::tokens::token_status::{TokenState, TokenStatus};

/// Waits until each token has been tried: the token signs, or the agent knows why it does not and
/// acts on it.
pub async fn every_token_tried(front: Rc<Front>) {
    for token in &front.config().tokens {
        let Some(handle) = front.tokens.handle(&token.settings.name) else { continue };
        // A token that a reload removes need not be tried.
        let _ = handle.subscribe().wait_for(was_tried).await;
    }
}

fn was_tried(status: &TokenStatus) -> bool {
    match status.state {
        TokenState::Degraded | TokenState::Healthy => true,
        TokenState::Down => status.given_up || status.next_try_ms.is_some(),
        TokenState::Starting => status.last_error.is_some(), // the agent already tries again
    }
}

/// Waits until it is known whether any token can be used. Returns the reasons if every token was
/// given up.
pub async fn no_token_starts(front: Rc<Front>) -> Option<String> {
    let mut reasons = Vec::new();
    for token in &front.config().tokens {
        let mut changes = front.tokens.handle(&token.settings.name)?.subscribe();
        let decided = |status: &TokenStatus| status.given_up || status.state == TokenState::Healthy;
        let status = changes.wait_for(decided).await.ok()?.clone();
        if !status.given_up {
            return None;
        }
        reasons.push(format!("{}: {}", token.settings.name, status.last_error.unwrap_or_default()));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// The state of the agent in one line for the service manager, for example `1 of 2 tokens healthy;
/// hsm down: …`.
pub fn in_one_line(front: &Front) -> String {
    let config = front.config();
    let statuses = config.tokens.iter().map(|token| &token.settings.name);
    let statuses: Vec<_> =
        statuses.filter_map(|name| Some((name.as_str(), front.tokens.status(name)?))).collect();
    line(front.is_locked(), &statuses)
}

fn line(locked: bool, tokens: &[(&str, TokenStatus)]) -> String {
    let healthy = tokens.iter().filter(|(_, status)| status.state == TokenState::Healthy).count();
    let mut line = format!("{healthy} of {} tokens healthy", tokens.len());
    if locked {
        line.insert_str(0, "locked; ");
    }
    for (name, status) in tokens.iter().filter(|(_, status)| status.state != TokenState::Healthy) {
        line.push_str(&format!("; {name} {}", status.state.name()));
        if let Some(error) = &status.last_error {
            line.push_str(&format!(": {error}"));
        }
    }
    // The text of an error may come from a module.
    line.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: TokenState, last_error: Option<&str>) -> TokenStatus {
        TokenStatus { state, last_error: last_error.map(str::to_owned), ..TokenStatus::starting() }
    }

    #[test]
    fn one_line_names_what_is_not_healthy() {
        let well = ("hsm", status(TokenState::Healthy, Some("hung once")));
        let down = ("other", status(TokenState::Down, Some("it is\nREADY=1")));
        assert_eq!(line(false, &[]), "0 of 0 tokens healthy");
        assert_eq!(line(false, std::slice::from_ref(&well)), "1 of 1 tokens healthy");
        let expected = "locked; 1 of 2 tokens healthy; other down: it is READY=1";
        assert_eq!(line(true, &[well, down]), expected);
    }

    #[test]
    fn a_token_was_tried_once_its_fate_is_known() {
        let lost = status(TokenState::Down, Some("dead"));
        let retried = TokenStatus { next_try_ms: Some(1), ..lost.clone() };
        let given_up = TokenStatus { given_up: true, ..lost.clone() };
        let again = status(TokenState::Starting, Some("dead"));
        let tried = [
            retried,
            given_up,
            again,
            status(TokenState::Healthy, None),
            status(TokenState::Degraded, None),
        ];
        assert!(tried.iter().all(was_tried));
        assert!(![lost, status(TokenState::Starting, None)].iter().any(was_tried));
    }
}

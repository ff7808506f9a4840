//! `sign` and `session`: finished requests and logins.

use clap::Args;
use countersign::core::wire::{SessionReply, SessionRequest, SignReply};
use countersign::{AgentClient, SignCall, Sockets};

use super::parameters::{RequestArguments, WS_API};
use super::wait::{self, WaitArguments};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, plain};
use crate::table::facts;

#[derive(Args, Debug)]
pub(crate) struct SignArguments {
    #[command(flatten)]
    request: RequestArguments,
    /// Free text for the journal
    #[arg(long)]
    reason: Option<String>,
    /// Write a curl command that sends the request
    #[arg(long, conflicts_with = "json")]
    curl: bool,
    #[command(flatten)]
    wait: WaitArguments,
}

#[derive(Args, Debug)]
pub(crate) struct SessionArguments {
    /// Name of the key
    #[arg(long)]
    key: String,
    /// The purpose of the session; ws is the private WebSocket
    #[arg(long, default_value = "ws")]
    purpose: String,
    /// The channel to subscribe to, if the exchange wants a signature for each.
    #[arg(long)]
    channel: Option<String>,
    /// The challenge that the exchange sent to be signed.
    #[arg(long)]
    challenge: Option<String>,
    /// An instrument of the channel; give it several times.
    #[arg(long = "symbol")]
    symbols: Vec<String>,
    #[command(flatten)]
    wait: WaitArguments,
}

pub(crate) fn sign(
    arguments: SignArguments,
    sockets: &Sockets,
    output: &Output,
) -> Result<Exit, Failure> {
    if arguments.curl && arguments.request.place.as_deref() == Some(WS_API) {
        return Err(Failure::Usage(
            "--curl cannot send a frame of a WebSocket: leave it out".to_owned(),
        ));
    }
    let params = arguments.request.params()?;
    let request = arguments.request;
    let mut call = SignCall::new(request.key, request.method, request.path);
    call.params = params;
    call.params_in = request.place;
    call.host = request.host;
    call.reason = arguments.reason;
    let mut client = AgentClient::open(sockets)?;
    let answer = client.sign(&call);
    let describe = if arguments.curl { curl } else { describe_request };
    wait::show(&mut client, answer, &arguments.wait, output, describe)
}

pub(crate) fn session(
    arguments: &SessionArguments,
    sockets: &Sockets,
    output: &Output,
) -> Result<Exit, Failure> {
    let mut client = AgentClient::open(sockets)?;
    let answer = client.login(&SessionRequest {
        channel: arguments.channel.clone(),
        challenge: arguments.challenge.clone(),
        symbols: arguments.symbols.clone(),
        ..SessionRequest::new(&arguments.key, &arguments.purpose)
    });
    wait::show(&mut client, answer, &arguments.wait, output, describe_session)
}

fn describe_request(reply: &SignReply) -> String {
    let mut text = format!("{} {}\n", plain(&reply.method), plain(&reply.url));
    text.push_str(&describe_headers(&reply.headers));
    if let Some(body) = &reply.body {
        text.push_str(&format!("\n{}\n", plain(body)));
    }
    text.push('\n');
    text.push_str(&facts(&[
        ("scope", reply.scope.to_string()),
        ("opens", reply.effective_scopes.to_string()),
        ("record", format!("{} {}", reply.record.seq, reply.record.hash)),
        ("request", reply.request_id.clone()),
    ]));
    text
}

fn describe_session(reply: &SessionReply) -> String {
    let mut text = format!("{}\n{}", plain(&reply.url), describe_headers(&reply.headers));
    if let Some(sent) = reply.frame.as_ref().or(reply.body.as_ref()) {
        text.push_str(&format!("{}\n", plain(sent)));
    }
    text.push('\n');
    text.push_str(&facts(&[
        ("scope", reply.scope.to_string()),
        ("opens", reply.effective_scopes.to_string()),
        ("session may", reply.grants.to_string()),
        ("record", format!("{} {}", reply.record.seq, reply.record.hash)),
        ("request", reply.request_id.clone()),
    ]));
    text
}

fn describe_headers(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, value)| format!("{}: {}\n", plain(name), plain(value))).collect()
}

/// A curl command that reads everything from a here-document, because every user of the machine can
/// see arguments.
fn curl(reply: &SignReply) -> String {
    let mut text = "curl --config - <<'COUNTERSIGN'\n".to_owned();
    let mut option =
        |name: &str, value: &str| text.push_str(&format!("{name} = \"{}\"\n", curl_quoted(value)));
    option("request", &reply.method);
    option("url", &reply.url);
    for (name, value) in &reply.headers {
        option("header", &format!("{name}: {value}"));
    }
    if let Some(body) = &reply.body {
        option("data-raw", body);
    }
    text.push_str("COUNTERSIGN\n");
    text
}

/// The escapes of curl's configuration files, <https://curl.se/docs/manpage.html#-K>.
fn curl_quoted(text: &str) -> String {
    text.chars().fold(String::new(), |mut quoted, character| {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
        quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curl_reads_back_what_was_signed() {
        assert_eq!(curl_quoted("{\"a\":\"\\n\"}\n"), "{\\\"a\\\":\\\"\\\\n\\\"}\\n");
    }
}

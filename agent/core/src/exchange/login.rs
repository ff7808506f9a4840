//! The arguments of a session login, checked once. No argument can be mistaken for a part of
//! another signed text.

use crate::refusal::Refusal;

/// A session login as a client asks for it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SessionLogin {
    purpose: String,
    /// The channel to subscribe to, on an exchange that signs for each channel.
    channel: Option<String>,
    /// The text that the exchange sent to be signed: a UUID.
    challenge: Option<String>,
    /// The instruments of the channel.
    symbols: Vec<String>,
}

/// The purpose of a login to the private WebSocket.
pub const WS: &str = "ws";

const MAX_SYMBOLS: usize = 100;
const MAX_LOGIN_NAME: usize = 64;

impl SessionLogin {
    /// A login to the exchange's private WebSocket, without arguments.
    pub fn ws() -> Self {
        Self { purpose: WS.to_owned(), ..Self::default() }
    }

    /// Parses the arguments of a client. An argument of the wrong form is refused.
    pub fn parse(
        purpose: &str,
        channel: Option<&str>,
        challenge: Option<&str>,
        symbols: &[String],
    ) -> Result<Self, Refusal> {
        let wrong = |what: &str| {
            Err(Refusal::malformed(format!("the {what} of the session is not of its form")))
        };
        if !is_name(purpose) {
            return wrong("purpose");
        }
        if channel.is_some_and(|channel| !is_name(channel)) {
            return wrong("channel");
        }
        // A challenge of any other form could be the text of a request.
        if challenge.is_some_and(|challenge| !is_uuid(challenge)) {
            return wrong("challenge");
        }
        if symbols.len() > MAX_SYMBOLS || !symbols.iter().all(|symbol| is_name(symbol)) {
            return wrong("list of symbols");
        }
        Ok(Self {
            purpose: purpose.to_owned(),
            channel: channel.map(str::to_owned),
            challenge: challenge.map(str::to_owned),
            symbols: symbols.to_vec(),
        })
    }

    /// Refuses any purpose but `ws`, and every argument. Most exchanges take no others.
    pub fn plain(&self) -> Result<(), Refusal> {
        self.one_of(&[WS])?;
        self.no_arguments()
    }

    /// The purpose, which has to be one of these.
    pub fn one_of(&self, purposes: &[&'static str]) -> Result<&'static str, Refusal> {
        purposes.iter().copied().find(|purpose| *purpose == self.purpose).ok_or_else(|| {
            Refusal::malformed(format!(
                "the purpose of a session with this exchange is one of {}",
                purposes.join(", ")
            ))
        })
    }

    /// The channel, which has to be one of these. The first is used if the client asks for none.
    pub fn channel(&self, known: &[&'static str]) -> Result<&'static str, Refusal> {
        let Some(asked) = &self.channel else { return Ok(known[0]) };
        known.iter().copied().find(|channel| channel == asked).ok_or_else(|| {
            Refusal::malformed(format!("the channel is not one of {}", known.join(", ")))
        })
    }

    /// True if the client asks for this channel.
    pub fn is_for(&self, channel: &str) -> bool {
        self.channel.as_deref() == Some(channel)
    }

    /// The challenge, a UUID. A login without one is refused.
    pub fn challenge(&self) -> Result<&str, Refusal> {
        self.challenge
            .as_deref()
            .ok_or_else(|| Refusal::malformed("the login of this exchange needs its challenge"))
    }

    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// Refuses a login with any of the three arguments.
    pub fn no_arguments(&self) -> Result<(), Refusal> {
        self.only(false, false, false)
    }

    /// Refuses the arguments that this login does not take.
    pub fn only(&self, channel: bool, challenge: bool, symbols: bool) -> Result<(), Refusal> {
        let unused = [
            ("channel", self.channel.is_some() && !channel),
            ("challenge", self.challenge.is_some() && !challenge),
            ("symbols", !self.symbols.is_empty() && !symbols),
        ];
        match unused.into_iter().find(|(_, is_unused)| *is_unused) {
            Some((name, _)) => {
                Err(Refusal::malformed(format!("the login of this exchange takes no {name}")))
            }
            None => Ok(()),
        }
    }
}

/// The text for the journal and for approvers: `ws`, `ws spot.orders BTC-USD`.
impl std::fmt::Display for SessionLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.purpose)?;
        let arguments = self.channel.iter().chain(&self.challenge).chain(&self.symbols);
        arguments.into_iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

/// True for a plain name, which cannot hold a separator of any signed text.
fn is_name(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=MAX_LOGIN_NAME).contains(&text.len()) && text.bytes().all(plain)
}

/// True for a text such as `7d0f3d1e-050f-4ba1-ac04-71f1596d8a19`.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        purpose: &str,
        channel: Option<&str>,
        challenge: Option<&str>,
        symbols: &[&str],
    ) -> Result<SessionLogin, Refusal> {
        let symbols: Vec<String> = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
        SessionLogin::parse(purpose, channel, challenge, &symbols)
    }

    #[test]
    fn arguments_have_one_form() {
        let uuid = "7d0f3d1e-050f-4ba1-ac04-71f1596d8a19";
        assert!(
            asked("ws", None, Some(uuid), &[])
                .is_ok_and(|login| login.challenge().is_ok_and(|text| text == uuid))
        );
        assert!(asked("ws", Some("spot.orders"), None, &["BTC-USD", "BTC_USDT"]).is_ok());
        for (channel, challenge, symbol) in [
            (None, Some("currency=XBT&amount=1/api/v3/withdrawal"), "a"),
            (None, Some("7d0f3d1e050f4ba1ac0471f1596d8a19"), "a"),
            (None, Some("7d0f3d1e-050f-4ba1-ac04-71f1596d8a1g"), "a"),
            (None, Some(""), "a"),
            (Some("spot orders"), None, "a"),
            (Some("a&event=subscribe"), None, "a"),
            (Some("a/b"), None, "a"),
            (Some(""), None, "a"),
            (None, None, "BTC/USD"),
            (None, None, "{}"),
            (None, None, ""),
        ] {
            assert!(
                asked("ws", channel, challenge, &[symbol]).is_err(),
                "{channel:?} {challenge:?} {symbol:?}"
            );
        }
        assert!(asked("w s", None, None, &[]).is_err());
    }

    #[test]
    fn what_a_login_does_not_take_is_refused() {
        let login = |channel, symbols| asked("ws", channel, None, symbols).expect("plain");
        assert!(login(None, &[]).plain().is_ok() && SessionLogin::ws().plain().is_ok());
        assert!(login(Some("user"), &[]).plain().is_err() && login(None, &["A"]).plain().is_err());
        assert!(asked("api", None, None, &[]).expect("plain").plain().is_err());
        assert_eq!(login(None, &[]).channel(&["user", "other"]).expect("the first"), "user");
        assert_eq!(login(Some("other"), &[]).channel(&["user", "other"]).expect("known"), "other");
        assert!(login(Some("third"), &[]).channel(&["user", "other"]).is_err());
    }
}

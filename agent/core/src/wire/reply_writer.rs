//! Writes the reply to a signed request as JSON, straight into the buffer of its frame. Nearly
//! every answer is such a reply, so it does not go through serde.

use std::io::Write;

use super::SignReply;
use crate::json::needs_no_escape;

impl SignReply {
    /// Appends the reply, byte for byte as serde writes it.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut reply = ReplyWriter(out);
        reply.number(r#"{"v":"#, self.v.into());
        reply.string(r#","request_id":"#, &self.request_id);
        reply.string(r#","scope":"#, self.scope.name());
        reply.list(r#","effective_scopes":"#, self.effective_scopes.iter(), |list, scope| {
            list.string("", scope.name());
        });
        reply.string(r#","method":"#, &self.method);
        reply.string(r#","url":"#, &self.url);
        reply.list(r#","headers":"#, &self.headers, |list, (name, value)| {
            list.string("[", name);
            list.string(",", value);
            list.text("]");
        });
        match &self.body {
            Some(body) => reply.string(r#","body":"#, body),
            None => reply.text(r#","body":null"#),
        }
        reply.string(r#","signature":"#, &self.signature);
        reply.number(r#","timestamp_ms":"#, self.timestamp_ms);
        reply.number(r#","record":{"seq":"#, self.record.seq);
        reply.string(r#","hash":"#, &self.record.hash);
        reply.text("}}");
    }
}

/// Appends values, each after the text that stands before it.
struct ReplyWriter<'a>(&'a mut Vec<u8>);

impl ReplyWriter<'_> {
    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, before: &str, number: u64) {
        write!(self.0, "{before}{number}").expect("writing to a Vec never fails");
    }

    fn string(&mut self, before: &str, text: &str) {
        self.text(before);
        if needs_no_escape(text) {
            self.0.push(b'"');
            self.text(text);
            self.0.push(b'"');
        } else {
            serde_json::to_writer(&mut *self.0, text).expect("a string always serialises");
        }
    }

    fn list<T>(
        &mut self,
        before: &str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) {
        self.text(before);
        self.0.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            write(self, item);
        }
        self.0.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;
    use crate::scope::{Scope, Scopes};
    use crate::wire::RecordId;

    /// Texts of all kinds of characters, many of them with an escape.
    fn text() -> impl Strategy<Value = String> {
        let escaped =
            select(vec!['"', '\\', '/', '\n', '\r', '\t', '\u{8}', '\u{c}', '\0', '\u{1f}']);
        let other = select(vec!['a', '\u{7f}', '\u{2028}', 'é', '币', '🐸']);
        let character = prop_oneof![any::<char>(), escaped, other];
        vec(character, 0..20).prop_map(String::from_iter)
    }

    fn scopes() -> impl Strategy<Value = Scopes> {
        subsequence(Scope::ALL.to_vec(), 0..=Scope::ALL.len()).prop_map(Scopes::from_iter)
    }

    fn reply() -> impl Strategy<Value = SignReply> {
        let numbers = (any::<u32>(), any::<u64>(), any::<u64>());
        let texts = (text(), text(), text(), text(), text(), proptest::option::of(text()));
        let headers = vec((text(), text()), 0..4);
        (numbers, select(Scope::ALL.to_vec()), scopes(), texts, headers).prop_map(
            |((v, timestamp_ms, seq), scope, effective_scopes, texts, headers)| {
                let (request_id, method, url, signature, hash, body) = texts;
                let record = RecordId { seq, hash };
                SignReply {
                    v,
                    request_id,
                    scope,
                    effective_scopes,
                    method,
                    url,
                    headers,
                    body,
                    signature,
                    timestamp_ms,
                    record,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_reply_is_written_as_by_serde(reply in reply()) {
            let mut written = b"before ".to_vec();
            reply.write_json(&mut written);
            let serde = serde_json::to_string(&reply).expect("serialises");
            prop_assert_eq!(String::from_utf8(written).expect("text"), format!("before {serde}"));
        }
    }
}

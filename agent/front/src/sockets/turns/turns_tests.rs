//! Tests the order in which turns are given out.

use std::future::Future;
use std::pin::pin;

use crate::sockets::turns::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Works for longer than a round.
fn work() {
    let start = Instant::now();
    while start.elapsed() < MILLISECOND {}
}

fn client(name: &str) -> Party {
    Party::Client(name.to_owned())
}

/// Runs `test` with a runtime that tells when its thread waited.
fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime =
        runtime.enable_all().on_thread_unpark(looked_at_sockets).build_local(Default::default());
    runtime.expect("a runtime").block_on(test);
}

/// Starts the given number of connections of each party. Each asks for `messages` turns in a row
/// and works in each. Returns the parties in the order of their turns.
async fn order(turns: &Rc<Turns>, parties: &[(Party, usize)], messages: usize) -> Vec<Party> {
    let had = Rc::new(RefCell::new(Vec::new()));
    let connections =
        parties.iter().flat_map(|(party, connections)| std::iter::repeat_n(party, *connections));
    let tasks: Vec<_> = connections
        .map(|party| {
            let (seat, party, had) = (turns.seat(party), party.clone(), Rc::clone(&had));
            tokio::task::spawn_local(async move {
                for _ in 0..messages {
                    seat.wait(true).called().await;
                    work();
                    had.borrow_mut().push(party.clone());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it ends");
    }
    had.take()
}

#[test]
fn turns_go_round_by_client_however_many_connections_one_has() {
    run(async {
        let turns = Rc::default();
        let parties = [
            (client("flood"), 100),
            (client("quiet"), 1),
            (Party::Uid(Some(7)), 50),
            (Party::Uid(None), 1),
        ];
        let had = order(&turns, &parties, 4).await;
        for party in ["quiet"].map(client).into_iter().chain([Party::Uid(None)]) {
            let at: Vec<_> = (0..had.len()).filter(|at| had[*at] == party).collect();
            assert_eq!(at.len(), 4);
            assert!(
                at[0] <= 4 && at.windows(2).all(|pair| pair[1] - pair[0] <= 4),
                "{party:?}: {at:?}"
            );
        }
        assert_eq!(had.len(), 4 * 152);
    });
}

#[test]
fn the_operator_is_first_and_keeps_nobody_out() {
    run(async {
        let turns = Rc::default();
        let parties = [(client("flood"), 50), (client("other"), 50), (Party::Operator, 20)];
        let had = order(&turns, &parties, 2).await;
        let operators: Vec<_> = (0..had.len()).filter(|at| had[*at] == Party::Operator).collect();
        assert!(
            operators[0] <= 1 && operators.windows(2).all(|pair| pair[1] - pair[0] <= 2),
            "{operators:?}"
        );
        assert!(
            operators.windows(2).all(|pair| pair[1] - pair[0] == 2),
            "never twice in a row: {operators:?}"
        );
    });
}

#[test]
fn connections_of_one_client_have_their_turns_in_order() {
    run(async {
        let turns = Rc::<Turns>::default();
        let had = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let (seat, had) = (turns.seat(&client("bot")), Rc::clone(&had));
                tokio::task::spawn_local(async move {
                    seat.wait(true).called().await;
                    work();
                    had.borrow_mut().push(number);
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("it ends");
        }
        assert!(had.borrow().is_sorted(), "{had:?}");
    });
}

#[test]
fn a_connection_full_of_messages_keeps_no_other_of_its_client_waiting() {
    run(async {
        let turns = Rc::<Turns>::default();
        let (full, other) = (turns.seat(&Party::Operator), turns.seat(&Party::Operator));
        let mut going_on = full.wait(false);
        let begins = other.wait(true);
        for _ in 0..2 {
            if begins.waiter.state() == WaiterState::Called {
                return;
            }
            going_on.called().await;
            work();
            going_on = full.wait(false);
        }
        begins.called().await;
        panic!("it was called only when nobody else was left: {going_on:?}");
    });
}

#[test]
fn who_is_alone_does_not_wait() {
    run(async {
        let turns = Rc::<Turns>::default();
        let (bot, other) = (turns.seat(&client("bot")), turns.seat(&client("other")));
        looked_at_sockets();
        assert!(bot.may_begin_at_once(true));
        work();
        assert!(!bot.may_begin_at_once(true), "the sockets have to be looked at");
        looked_at_sockets();
        let ticket = other.wait(true);
        assert!(!bot.may_begin_at_once(true), "somebody waits");
        drop(ticket);
        bot.turn().await;
    });
}

#[test]
fn nothing_is_begun_for_a_client_that_holds_too_much() {
    run(async {
        let turns = Rc::<Turns>::default();
        let [one, two, other] = ["bot", "bot", "other"].map(|name| turns.seat(&client(name)));
        let called = async |ticket: &Ticket| {
            tokio::time::timeout(20 * MILLISECOND, ticket.called()).await.is_ok()
        };
        one.holds(MOST_HELD);
        looked_at_sockets();
        assert!(!two.may_begin_at_once(true) && other.may_begin_at_once(true));
        assert!(two.may_begin_at_once(false), "what has begun goes on");
        let waits = two.wait(true);
        assert!(!called(&waits).await);
        assert!(called(&two.wait(false)).await, "what has begun goes on");
        assert!(called(&other.wait(true)).await, "others are not concerned");
        one.holds(MOST_HELD - 1);
        assert!(called(&waits).await);
        drop(one);
        assert_eq!(two.line.held.get(), 0);
    });
}

#[test]
fn who_goes_away_gives_up_the_turn() {
    run(async {
        let turns = Rc::<Turns>::default();
        let seats: Vec<_> = (0..10).map(|_| turns.seat(&client("bot"))).collect();
        let mut tickets: Vec<_> = seats.iter().map(|seat| seat.wait(true)).collect();
        let last = tickets.pop().expect("ten");
        // None of these takes its turn, called or not.
        assert!(
            pin!(tickets[0].called())
                .as_mut()
                .poll(&mut Context::from_waker(std::task::Waker::noop()))
                .is_pending()
        );
        tokio::time::sleep(MILLISECOND).await;
        drop(tickets);
        last.called().await;
    });
}

use super::*;

/// E-16, E-31, E-33, E-34, E-36: every row of the table in the protocol notes.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn e_16_e_31_texts_decide_where_codes_do_not() {
    use ErrorKind::{
        Conflict, InvalidInput, NotFound, PermissionDenied, Protocol, RateLimited, Timeout, Unauthenticated,
        Unavailable, Unsupported, WatchExpired,
    };
    let rows = [
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
            WatchExpired,
            Fault::Answer,
        ),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
            WatchExpired,
            Fault::Answer,
        ),
        (
            Code::InvalidArgument,
            "etcdserver: user name is empty",
            Unauthenticated,
            Fault::Token,
        ),
        (
            Code::InvalidArgument,
            "etcdserver: revision of auth store is old",
            Unauthenticated,
            Fault::Token,
        ),
        (
            Code::Unauthenticated,
            "etcdserver: invalid auth token",
            Unauthenticated,
            Fault::Token,
        ),
        (
            Code::InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password",
            Unauthenticated,
            Fault::Answer,
        ),
        (
            Code::PermissionDenied,
            "etcdserver: permission denied",
            PermissionDenied,
            Fault::Answer,
        ),
        (
            Code::NotFound,
            "etcdserver: requested lease not found",
            NotFound,
            Fault::Answer,
        ),
        (
            Code::FailedPrecondition,
            "etcdserver: lease already exists",
            Conflict,
            Fault::Answer,
        ),
        (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
            RateLimited,
            Fault::Answer,
        ),
        (
            Code::ResourceExhausted,
            "etcdserver: too many requests",
            RateLimited,
            Fault::Answer,
        ),
        (
            Code::InvalidArgument,
            "etcdserver: request is too large",
            InvalidInput,
            Fault::Answer,
        ),
        (
            Code::OutOfRange,
            "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
            InvalidInput,
            Fault::Answer,
        ),
        (
            Code::InvalidArgument,
            "etcdserver: key is not provided",
            InvalidInput,
            Fault::Answer,
        ),
        (
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request",
            InvalidInput,
            Fault::Answer,
        ),
        (
            Code::Unavailable,
            "etcdserver: no leader",
            Unavailable,
            Fault::Member,
        ),
        (
            Code::Unavailable,
            "etcdserver: request timed out",
            Timeout,
            Fault::Member,
        ),
        (
            Code::DeadlineExceeded,
            "context deadline exceeded",
            Timeout,
            Fault::Member,
        ),
        (Code::Unknown, "h2 protocol error", Unavailable, Fault::Member),
        (Code::Unimplemented, "unknown service", Unsupported, Fault::Answer),
        (Code::DataLoss, "?", Protocol, Fault::Member),
    ];
    for (code, text, kind, fault) in rows {
        let (found, failed) = of_status(Status::new(code, text));
        assert_eq!((failed.kind(), found), (kind, fault), "{code:?} {text}");
        assert_eq!(failed.backend(), Some("etcd"));
    }
}

#[test]
fn e_35_a_learner_is_left_for_another_member() {
    let (found, failed) = of_status(Status::new(
        Code::Unavailable,
        "etcdserver: rpc not supported for learner",
    ));
    assert_eq!((failed.kind(), found), (ErrorKind::Unavailable, Fault::Member));
}

/// What servers say in a stream that stays healthy, as recorded.
#[test]
fn e_15_e_22_a_cancelled_watch_says_why_or_nothing() {
    let rows = [
        (7, "", ErrorKind::WatchExpired, Fault::Answer),
        (0, "", ErrorKind::Unavailable, Fault::Member),
        (
            0,
            "etcdserver: mvcc: required revision has been compacted",
            ErrorKind::WatchExpired,
            Fault::Answer,
        ),
        (
            0,
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            ErrorKind::PermissionDenied,
            Fault::Answer,
        ),
        (
            0,
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
            ErrorKind::Unauthenticated,
            Fault::Token,
        ),
    ];
    for (compacted, reason, kind, fault) in rows {
        let (found, failed) = of_cancel(compacted, reason);
        assert_eq!((failed.kind(), found), (kind, fault), "{compacted} {reason}");
    }
}

#[test]
fn what_was_never_sent_is_told_apart() {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let wrapped = std::io::Error::other(NotConnected::from(refused));
    let (fault, failed) = of_status(Status::from_error(Box::new(wrapped)));
    assert_eq!((fault, failed.kind()), (Fault::NotSent, ErrorKind::Unavailable));
}

#[test]
fn long_and_hostile_texts_are_tamed() {
    let (_, failed) = of_status(Status::new(Code::Unavailable, "x\n".repeat(10_000)));
    let text = failed.to_string();
    assert!(text.len() < 500 && !text.contains('\n'), "{text}");
}

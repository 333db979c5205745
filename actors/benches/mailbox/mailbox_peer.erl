%% The Erlang side of the mailbox benchmark: the same measurements with processes and `!`.
%%
%% Called by erlang.rs as `erl -run mailbox_peer main TEST COUNT`; prints lines `name value`.
-module(mailbox_peer).
-export([main/1, counter/1]).

-define(WINDOW, 200).

main([Test, Count]) ->
    take(Test, list_to_integer(Count)),
    halt(0).

take("tell_1_to_1" = Test, Windows) -> say(Test, windowed(1, Windows));
take("tell_4_to_1" = Test, Windows) -> say(Test, windowed(4, Windows div 4));
take("flood_1_to_1" = Test, Messages) -> say(Test, flood(Messages));
take("spawn_stop" = Test, Count) -> say(Test, spawn_stop(Count));
take("ask", Count) ->
    {P50, P99} = asks(Count),
    say("ask_p50", P50),
    say("ask_p99", P99);
take("bytes", Actors) ->
    {Idle, Used} = memory(Actors),
    say("bytes_idle", Idle),
    say("bytes_used", Used).

say(Name, Value) -> io:format("~s ~.6f~n", [Name, float(Value)]).

counter(N) ->
    receive
        add -> counter(N + 1);
        {get, From, Ref} -> From ! {Ref, N}, counter(N);
        stop -> ok
    end.

ask(Counter) ->
    Ref = make_ref(),
    Counter ! {get, self(), Ref},
    receive {Ref, N} -> N end.

windowed(Senders, Windows) ->
    Counter = spawn(?MODULE, counter, [0]),
    Self = self(),
    Start = now_ns(),
    [spawn(fun() -> windows(Counter, Windows), Self ! done end) || _ <- lists:seq(1, Senders)],
    [receive done -> ok end || _ <- lists:seq(1, Senders)],
    Took = now_ns() - Start,
    Told = Senders * Windows * ?WINDOW,
    Told = ask(Counter),
    Counter ! stop,
    (Told + Senders * Windows) * 1000 / Took.

windows(_, 0) -> ok;
windows(Counter, N) ->
    tell(Counter, ?WINDOW),
    ask(Counter),
    windows(Counter, N - 1).

tell(_, 0) -> ok;
tell(Counter, N) -> Counter ! add, tell(Counter, N - 1).

flood(Messages) ->
    Counter = spawn(?MODULE, counter, [0]),
    Start = now_ns(),
    tell(Counter, Messages),
    Messages = ask(Counter),
    Took = now_ns() - Start,
    Counter ! stop,
    Messages * 1000 / Took.

asks(Count) ->
    Counter = spawn(?MODULE, counter, [0]),
    tell(Counter, 1000),
    Samples = lists:sort(sample(Counter, Count, now_ns(), [])),
    Counter ! stop,
    {lists:nth(max(1, Count div 2), Samples), lists:nth(max(1, Count * 99 div 100), Samples)}.

sample(_, 0, _, Samples) -> Samples;
sample(Counter, N, Before, Samples) ->
    ask(Counter),
    After = now_ns(),
    sample(Counter, N - 1, After, [After - Before | Samples]).

spawn_stop(Count) ->
    Start = now_ns(),
    spawn_stop_each(Count),
    (now_ns() - Start) / Count / 1000.

spawn_stop_each(0) -> ok;
spawn_stop_each(N) ->
    {Pid, Ref} = spawn_monitor(?MODULE, counter, [0]),
    Pid ! stop,
    receive {'DOWN', Ref, process, Pid, _} -> ok end,
    spawn_stop_each(N - 1).

memory(Count) ->
    Before = resident(),
    Pids = [spawn(?MODULE, counter, [0]) || _ <- lists:seq(1, Count)],
    ask(lists:last(Pids)),
    Idle = resident(),
    [ask(Pid) || Pid <- Pids],
    Used = resident(),
    {(Idle - Before) / Count, (Used - Before) / Count}.

resident() ->
    case file:read_file("/proc/" ++ os:getpid() ++ "/status") of
        {ok, Text} ->
            {match, [Kilobytes]} = re:run(Text, "VmRSS:\\s+(\\d+)", [{capture, [1], list}]),
            list_to_integer(Kilobytes) * 1024;
        _ -> erlang:memory(total)
    end.

now_ns() -> erlang:monotonic_time(nanosecond).

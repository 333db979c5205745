%% The Erlang side of the benchmark of remote actors: two nodes that speak Erlang's distribution, plain text over TCP.
%%
%% Called by erlang.rs as `erl -run remote_peer server` and `erl -run remote_peer client SERVER`. The client reads lines
%% `TEST COUNT` and answers each with `TEST FIGURE…`. Both end with their standard input.
-module(remote_peer).
-behaviour(gen_server).
-export([server/0, client/1]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(IN_FLIGHT, 1000).
-define(BODY, 64).
-define(PATIENCE_MS, 10000).

server() ->
    register(counter, spawn(fun() -> counter(0) end)),
    {ok, _} = gen_server:start({local, gen_counter}, ?MODULE, [], []),
    say("ready", []),
    eof = io:get_line(""),
    halt(0).

client([Server]) ->
    Node = list_to_atom(Server),
    true = net_kernel:connect_node(Node),
    Counter = erpc:call(Node, erlang, whereis, [counter], ?PATIENCE_MS),
    Gen = erpc:call(Node, erlang, whereis, [gen_counter], ?PATIENCE_MS),
    Main = self(),
    spawn(fun() -> reader(Main) end),
    say("ready", []),
    serve(Node, Counter, Gen).

%% A process of its own, so that the end of the input is heard while something is measured.
reader(Main) ->
    case io:get_line("") of
        Line when is_list(Line) ->
            Main ! {line, string:lexemes(Line, " \n")},
            reader(Main);
        _ -> halt(0)
    end.

serve(Node, Counter, Gen) ->
    receive
        {line, [Test, Count]} ->
            say(Test, take(Test, list_to_integer(Count), Node, Counter, Gen)),
            serve(Node, Counter, Gen)
    end.

take("round_trip", Count, _, Counter, _) -> round_trips(fun() -> echo(Counter) end, Count);
take("round_trip_gen_server", Count, _, _, Gen) -> round_trips(fun() -> gen_echo(Gen) end, Count);
take("one_way", Count, Node, Counter, _) -> one_way(Count, Node, Counter);
take("asks_in_flight", Count, Node, Counter, _) -> asks(fun() -> echo(Counter) end, Count, Node);
take("asks_in_flight_gen_server", Count, Node, _, Gen) -> asks(fun() -> gen_echo(Gen) end, Count, Node).

say(Name, Figures) ->
    io:format("~s~s~n", [Name, [io_lib:format(" ~.6f", [float(Figure)]) || Figure <- Figures]]).

counter(N) ->
    receive
        {echo, From, Ref, Body} -> From ! {Ref, Body}, counter(N);
        {count, From, Ref} -> From ! {Ref, N}, counter(0);
        Body when byte_size(Body) =:= ?BODY -> counter(N + 1)
    end.

init([]) -> {ok, []}.
handle_call({echo, Body}, _, State) -> {reply, Body, State}.
handle_cast(_, State) -> {noreply, State}.

body() -> binary:copy(<<7>>, ?BODY).

echo(Counter) ->
    Ref = make_ref(),
    Counter ! {echo, self(), Ref, body()},
    receive {Ref, Body} when byte_size(Body) =:= ?BODY -> ok after ?PATIENCE_MS -> exit(timeout) end.

gen_echo(Gen) ->
    Body = gen_server:call(Gen, {echo, body()}, ?PATIENCE_MS),
    ?BODY = byte_size(Body),
    ok.

round_trips(Ask, Count) ->
    Samples = lists:sort(sample(Ask, Count, [])),
    [percentile(Samples, Count, 50), percentile(Samples, Count, 99)].

sample(_, 0, Samples) -> Samples;
sample(Ask, N, Samples) ->
    Before = now_ns(),
    Ask(),
    sample(Ask, N - 1, [now_ns() - Before | Samples]).

%% In microseconds.
percentile(Sorted, Count, Part) -> lists:nth(max(1, Count * Part div 100), Sorted) / 1000.

%% The buffer of the distribution holds the sender back when the other node does not keep up.
one_way(Count, Node, Counter) ->
    Began = cpu_ms(Node),
    tell(Counter, body(), Count),
    Ref = make_ref(),
    Counter ! {count, self(), Ref},
    receive {Ref, Count} -> ok after 12 * ?PATIENCE_MS -> exit(timeout) end,
    [Count / (cpu_ms(Node) - Began) / 1000].

tell(_, _, 0) -> ok;
tell(Counter, Body, N) -> Counter ! Body, tell(Counter, Body, N - 1).

asks(Ask, Count, Node) ->
    Each = Count div ?IN_FLIGHT,
    Main = self(),
    Began = cpu_ms(Node),
    Askers = [spawn_link(fun() -> Main ! {self(), sample(Ask, Each, [])} end) || _ <- lists:seq(1, ?IN_FLIGHT)],
    Samples = lists:append([receive {Asker, Some} -> Some end || Asker <- Askers]),
    Took = cpu_ms(Node) - Began,
    Total = Each * ?IN_FLIGHT,
    [Total / Took / 1000, percentile(lists:sort(Samples), Total, 99)].

%% For which both nodes have run, in milliseconds.
cpu_ms(Node) ->
    {Ours, _} = statistics(runtime),
    {Theirs, _} = erpc:call(Node, erlang, statistics, [runtime], ?PATIENCE_MS),
    Ours + Theirs.

now_ns() -> erlang:monotonic_time(nanosecond).

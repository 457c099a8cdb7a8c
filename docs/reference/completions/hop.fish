# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_hop_global_optspecs
    string join \n color= h/help V/version
end

function __fish_hop_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_hop_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_hop_using_subcommand
    set -l cmd (__fish_hop_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c hop -n "__fish_hop_needs_command" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_needs_command" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_needs_command" -s V -l version -d 'Print version'
complete -c hop -n "__fish_hop_needs_command" -f -a "up" -d 'Bring a lab up, or change the running one into what the topology says'
complete -c hop -n "__fish_hop_needs_command" -f -a "down" -d 'Take labs down: their processes end, nothing of them is left'
complete -c hop -n "__fish_hop_needs_command" -f -a "run" -d 'Run a command with a lab that lives exactly as long as it does'
complete -c hop -n "__fish_hop_needs_command" -f -a "ls" -d 'List the labs that run'
complete -c hop -n "__fish_hop_needs_command" -f -a "show" -d 'Show a lab, or one node of it, as it is now'
complete -c hop -n "__fish_hop_needs_command" -f -a "plan" -d 'Print what `hop up` would do, step by step, without doing it'
complete -c hop -n "__fish_hop_needs_command" -f -a "diff" -d 'Show what differs between a running lab and what was declared: what was changed by hand, and what the lab itself lost'
complete -c hop -n "__fish_hop_needs_command" -f -a "exec" -d 'Run a command in a node'
complete -c hop -n "__fish_hop_needs_command" -f -a "shell" -d 'Open a shell in a node'
complete -c hop -n "__fish_hop_needs_command" -f -a "sandbox" -d 'Run a command that reaches nothing but what is allowed'
complete -c hop -n "__fish_hop_needs_command" -f -a "ping" -d 'Measure who reaches whom: one pair of nodes, or all of them'
complete -c hop -n "__fish_hop_needs_command" -f -a "why" -d 'Say why one node does not reach another: hop by hop, there and back, with the smallest repair'
complete -c hop -n "__fish_hop_needs_command" -f -a "check" -d 'Say who reaches whom, and whether it is as it should be: predicted for all pairs of nodes, and tried'
complete -c hop -n "__fish_hop_needs_command" -f -a "record" -d 'Write a network down as it is now, in one file that `hop why --from` explains anywhere'
complete -c hop -n "__fish_hop_needs_command" -f -a "ns" -d 'Namespaces by name, as `ip netns` has them: what one makes, the other sees, enters and deletes'
complete -c hop -n "__fish_hop_needs_command" -f -a "attach" -d 'Make a running container a node of a running lab'
complete -c hop -n "__fish_hop_needs_command" -f -a "detach" -d 'Make an attached node one as any other again'
complete -c hop -n "__fish_hop_needs_command" -f -a "enable" -d 'Bring a lab up whenever the machine starts'
complete -c hop -n "__fish_hop_needs_command" -f -a "disable" -d 'Do not bring a lab up any more when the machine starts'
complete -c hop -n "__fish_hop_needs_command" -f -a "unit" -d 'Make a service of systemd run in a node'
complete -c hop -n "__fish_hop_needs_command" -f -a "doctor" -d 'Find out, by doing it, whether this machine can run labs for you, and what to do where it cannot'
complete -c hop -n "__fish_hop_needs_command" -f -a "schema" -d 'Print the JSON Schema of the topology file, for editors; or of what a command prints, for programs'
complete -c hop -n "__fish_hop_needs_command" -f -a "completions" -d 'Print the completions for a shell'
complete -c hop -n "__fish_hop_needs_command" -f -a "man" -d 'Print the manual page, hop(1), with a section for every command: `hop man | man -l -`'
complete -c hop -n "__fish_hop_using_subcommand up" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand up" -l name -d 'Call the lab NAME, whatever the topology says' -r
complete -c hop -n "__fish_hop_using_subcommand up" -s 4 -l ipv4-only -d 'IPv4 only: choose no IPv6 addresses'
complete -c hop -n "__fish_hop_using_subcommand up" -s 6 -l ipv6-only -d 'IPv6 only: choose no IPv4 addresses'
complete -c hop -n "__fish_hop_using_subcommand up" -s v -l verbose -d 'Print every step, as the command that a person would type'
complete -c hop -n "__fish_hop_using_subcommand up" -s q -l quiet -d 'Print nothing but warnings and errors'
complete -c hop -n "__fish_hop_using_subcommand up" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand down" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand down" -l all -d 'All of them, also what is left of crashed ones'
complete -c hop -n "__fish_hop_using_subcommand down" -l wait -d 'Return only when the kernel has freed everything'
complete -c hop -n "__fish_hop_using_subcommand down" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand run" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand run" -l name -d 'Call the lab NAME, whatever the topology says' -r
complete -c hop -n "__fish_hop_using_subcommand run" -s n -l node -d 'Run the command in this node' -r
complete -c hop -n "__fish_hop_using_subcommand run" -s 4 -l ipv4-only -d 'IPv4 only: choose no IPv6 addresses'
complete -c hop -n "__fish_hop_using_subcommand run" -s 6 -l ipv6-only -d 'IPv6 only: choose no IPv4 addresses'
complete -c hop -n "__fish_hop_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ls" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ls" -l json -d 'Print JSON'
complete -c hop -n "__fish_hop_using_subcommand ls" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand show" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand show" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand show" -l json -d 'Print JSON'
complete -c hop -n "__fish_hop_using_subcommand show" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand plan" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand plan" -l name -d 'Call the lab NAME, whatever the topology says' -r
complete -c hop -n "__fish_hop_using_subcommand plan" -s 4 -l ipv4-only -d 'IPv4 only: choose no IPv6 addresses'
complete -c hop -n "__fish_hop_using_subcommand plan" -s 6 -l ipv6-only -d 'IPv6 only: choose no IPv4 addresses'
complete -c hop -n "__fish_hop_using_subcommand plan" -l json -d 'Print JSON: the list of steps'
complete -c hop -n "__fish_hop_using_subcommand plan" -l effect -d 'With --json: an object with the steps, and with the pairs that the change cuts and joins'
complete -c hop -n "__fish_hop_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand diff" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand diff" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand diff" -l json -d 'Print JSON'
complete -c hop -n "__fish_hop_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand exec" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand exec" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand exec" -s u -l user -d 'Run as this user, by name or number' -r
complete -c hop -n "__fish_hop_using_subcommand exec" -s e -l env -d 'Set an environment variable; without a value, take it away' -r
complete -c hop -n "__fish_hop_using_subcommand exec" -s C -l cwd -d 'Run in this directory instead of the current one' -r -F
complete -c hop -n "__fish_hop_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand shell" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand shell" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand shell" -s u -l user -d 'Run as this user, by name or number' -r
complete -c hop -n "__fish_hop_using_subcommand shell" -s e -l env -d 'Set an environment variable; without a value, take it away' -r
complete -c hop -n "__fish_hop_using_subcommand shell" -s C -l cwd -d 'Run in this directory instead of the current one' -r -F
complete -c hop -n "__fish_hop_using_subcommand shell" -s s -l shell -d 'The shell; $SHELL if not given' -r
complete -c hop -n "__fish_hop_using_subcommand shell" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand sandbox" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand sandbox" -l net -d 'The network outside: none, a node as LAB/NODE, or a NAME in /run/netns; this one, if not given' -r
complete -c hop -n "__fish_hop_using_subcommand sandbox" -s a -l allow -d 'What may be reached: HOST:PORT, HOST, ADDRESS, NETWORK/LENGTH or any, each with :PORT, /tcp, /udp, /icmp' -r
complete -c hop -n "__fish_hop_using_subcommand sandbox" -l deny -d 'What may not be reached, whatever is allowed: ADDRESS, NETWORK/LENGTH or any, each with :PORT, /tcp, /udp, /icmp' -r
complete -c hop -n "__fish_hop_using_subcommand sandbox" -s p -l publish -d 'A port of the command that outside may reach: PORT, OUTER:INNER, ADDRESS:OUTER:INNER; UDP with /udp' -r
complete -c hop -n "__fish_hop_using_subcommand sandbox" -s C -l cwd -d 'Run in this directory instead of the current one' -r -F
complete -c hop -n "__fish_hop_using_subcommand sandbox" -s r -l record -d 'List at the end what it tried to reach, and the options that would let it'
complete -c hop -n "__fish_hop_using_subcommand sandbox" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ping" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ping" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand ping" -s c -l count -d 'How many requests to send, one after the other\'s answer' -r
complete -c hop -n "__fish_hop_using_subcommand ping" -s W -l timeout -d 'How long to wait for an answer, in milliseconds' -r
complete -c hop -n "__fish_hop_using_subcommand ping" -l all -d 'Every node to every other; who is not answered is asked a second time'
complete -c hop -n "__fish_hop_using_subcommand ping" -s 4 -l ipv4-only -d 'IPv4 only'
complete -c hop -n "__fish_hop_using_subcommand ping" -s 6 -l ipv6-only -d 'IPv6 only'
complete -c hop -n "__fish_hop_using_subcommand ping" -l json -d 'Print JSON'
complete -c hop -n "__fish_hop_using_subcommand ping" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand why" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand why" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand why" -l size -d 'How long the packet is, in bytes with its IP header; it may not be cut on the way. Not for TCP' -r
complete -c hop -n "__fish_hop_using_subcommand why" -l from -d 'Explain what `hop record` has written, here or elsewhere: nobody is asked, and nothing sent' -r -F
complete -c hop -n "__fish_hop_using_subcommand why" -s 4 -l ipv4-only -d 'The target\'s IPv4 address'
complete -c hop -n "__fish_hop_using_subcommand why" -s 6 -l ipv6-only -d 'The target\'s IPv6 address; without this, IPv4 where it has both'
complete -c hop -n "__fish_hop_using_subcommand why" -l ns -d 'SRC and DST are namespaces: names in /run/netns, `pid:1234`, a path, or `host` for the machine\'s own network. With them comes all that cables lead to from there'
complete -c hop -n "__fish_hop_using_subcommand why" -l no-probe -d 'Send no packet: only compute and ask'
complete -c hop -n "__fish_hop_using_subcommand why" -l no-trace -d 'Send a packet, but let no firewall tell of it: else a table that traces it is in each node that has rules, as long as it is on its way'
complete -c hop -n "__fish_hop_using_subcommand why" -l probe -d 'With --ns: send a packet also from the machine\'s own network, and where it leaves what is known'
complete -c hop -n "__fish_hop_using_subcommand why" -l fix -d 'Make the changes, and take them back if a packet shows that they do not help'
complete -c hop -n "__fish_hop_using_subcommand why" -l explain -d 'Below the answer, teach: what each kernel does with the packet, in its order, and where that is written'
complete -c hop -n "__fish_hop_using_subcommand why" -l json -d 'Print JSON; `hop schema --why` says in which form'
complete -c hop -n "__fish_hop_using_subcommand why" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand check" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand check" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand check" -l from -d 'Check what `hop record` has written, here or elsewhere: by prediction alone' -r -F
complete -c hop -n "__fish_hop_using_subcommand check" -s W -l timeout -d 'How long to wait for an expected answer, in milliseconds' -r
complete -c hop -n "__fish_hop_using_subcommand check" -s 4 -l ipv4-only -d 'IPv4 only'
complete -c hop -n "__fish_hop_using_subcommand check" -s 6 -l ipv6-only -d 'IPv6 only'
complete -c hop -n "__fish_hop_using_subcommand check" -l ns -d 'Check namespaces: names in /run/netns, `pid:1234`, a path, or `host` for the machine\'s own network. With them comes all that cables lead to from there'
complete -c hop -n "__fish_hop_using_subcommand check" -l no-probe -d 'Send no packet: only predict'
complete -c hop -n "__fish_hop_using_subcommand check" -l probe -d 'With --ns: send packets also from the machine\'s own network, and where they leave what is known'
complete -c hop -n "__fish_hop_using_subcommand check" -l json -d 'Print JSON'
complete -c hop -n "__fish_hop_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand record" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand record" -s o -l output -d 'The file; `-` is standard output. Without this, NAME.snapshot.json in the current directory' -r -F
complete -c hop -n "__fish_hop_using_subcommand record" -l force -d 'Replace the file if it is there already'
complete -c hop -n "__fish_hop_using_subcommand record" -l ns -d 'Namespaces instead of a lab, as for `hop why --ns`, with all that cables lead to from there'
complete -c hop -n "__fish_hop_using_subcommand record" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "add" -d 'Make namespaces, as many as there are names; in each is `lo`, down'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "delete" -d 'Delete names; a namespace ends when nothing holds it any more'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "del" -d 'Delete names; a namespace ends when nothing holds it any more'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "list" -d 'List the names, and what lives behind them'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "ls" -d 'List the names, and what lives behind them'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "exec" -d 'Run a command in a namespace, or in each'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "identify" -d 'Print the names of the namespace that a process is in, one a line; all of them, if it has several'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "pids" -d 'Print the ids of the processes in a namespace, also of those that have but a thread there'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "attach" -d 'Give the network namespace of a process a name'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "set" -d 'Give a namespace the number by which this one knows it (`link-netnsid` of `ip link`)'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "monitor" -d 'Print a line for every name that comes or goes, until it is stopped'
complete -c hop -n "__fish_hop_using_subcommand ns; and not __fish_seen_subcommand_from add delete del list ls exec identify pids attach set monitor move" -f -a "move" -d 'Move an interface into a namespace, or back, with what the kernel would take from it on the way'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from add" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from delete" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from delete" -l all -d 'All of them, but for those of labs'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from delete" -l wait -d 'Return only when nothing holds the namespaces and the kernel has freed them'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from del" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from del" -l all -d 'All of them, but for those of labs'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from del" -l wait -d 'Return only when nothing holds the namespaces and the kernel has freed them'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from del" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from list" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from list" -l holders -d 'Say also what holds each namespace besides its name: processes, open files, sockets, other mounts'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from ls" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from ls" -l holders -d 'Say also what holds each namespace besides its name: processes, open files, sockets, other mounts'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from ls" -l json -d 'Print JSON'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from exec" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from exec" -s u -l user -d 'Run as this user, by name or number' -r
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from exec" -s e -l env -d 'Set an environment variable; without a value, take it away' -r
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from exec" -s C -l cwd -d 'Run in this directory instead of the current one' -r -F
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from exec" -l all -d 'In every namespace that has a name, one after the other; fails if it fails in one. A signal ends it all'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from identify" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from identify" -l json -d 'Print JSON: a list of names'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from identify" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from pids" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from pids" -l json -d 'Print JSON: a list of numbers'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from pids" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from attach" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from attach" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from set" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from monitor" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from monitor" -l json -d 'Print JSON, an object a line'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from monitor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from move" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from move" -l from -d 'Where from, if not from here: the name of a namespace' -r
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from move" -l bare -d 'Let it be down and have nothing, as after `ip link set DEV netns NAME`'
complete -c hop -n "__fish_hop_using_subcommand ns; and __fish_seen_subcommand_from move" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand attach" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand attach" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand attach" -l container -d 'A container of podman or docker, or a machine of systemd-nspawn' -r
complete -c hop -n "__fish_hop_using_subcommand attach" -l pid -d 'Any process, by its number' -r
complete -c hop -n "__fish_hop_using_subcommand attach" -l engine -d 'Ask this one for the container' -r -f -a "podman\t''
docker\t''
machinectl\t''"
complete -c hop -n "__fish_hop_using_subcommand attach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand detach" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand detach" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand detach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand enable" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand enable" -l name -d 'Call the lab NAME, whatever the topology says' -r
complete -c hop -n "__fish_hop_using_subcommand enable" -s 4 -l ipv4-only -d 'IPv4 only: choose no IPv6 addresses'
complete -c hop -n "__fish_hop_using_subcommand enable" -s 6 -l ipv6-only -d 'IPv6 only: choose no IPv4 addresses'
complete -c hop -n "__fish_hop_using_subcommand enable" -l now -d 'Bring it up now as well, or change the running lab into it'
complete -c hop -n "__fish_hop_using_subcommand enable" -l print -d 'Write nothing; print the unit'
complete -c hop -n "__fish_hop_using_subcommand enable" -l force -d 'Replace files that somebody has edited'
complete -c hop -n "__fish_hop_using_subcommand enable" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand disable" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand disable" -l now -d 'Take them down now as well'
complete -c hop -n "__fish_hop_using_subcommand disable" -l force -d 'Remove files that somebody has edited, too'
complete -c hop -n "__fish_hop_using_subcommand disable" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand unit" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand unit" -s l -l lab -d 'The lab; not needed where only one runs' -r
complete -c hop -n "__fish_hop_using_subcommand unit" -s n -l node -d 'The node, as NODE or LAB/NODE' -r
complete -c hop -n "__fish_hop_using_subcommand unit" -l install -d 'Write the drop-in; the service runs in the node when it is started the next time'
complete -c hop -n "__fish_hop_using_subcommand unit" -l remove -d 'Remove the drop-in'
complete -c hop -n "__fish_hop_using_subcommand unit" -l force -d 'Replace or remove a drop-in that somebody has edited'
complete -c hop -n "__fish_hop_using_subcommand unit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand doctor" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand schema" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand schema" -l why -d 'That of `hop why --json`'
complete -c hop -n "__fish_hop_using_subcommand schema" -s h -l help -d 'Print help'
complete -c hop -n "__fish_hop_using_subcommand completions" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c hop -n "__fish_hop_using_subcommand man" -l color -d 'Colours: `auto` is on a terminal only' -r -f -a "auto\t''
always\t''
never\t''"
complete -c hop -n "__fish_hop_using_subcommand man" -s h -l help -d 'Print help'

// Package load puts load on an nsqd and measures what that costs it.
//
// An [NSQD] is started from a binary ([Start]), with an empty data directory and
// free ports, or is one that runs already ([Connect]). [NSQD.Dial] gives raw
// protocol connections, bare or with a layer over the socket ([OverTLS]), which publish
// ([Conn.Publish], [Conn.PublishInTurn], [Conn.PublishPaced]) and
// consume ([Conn.Subscribe], [Conn.Consume]) so cheaply that nsqd is what limits the
// rate: commands are built once, many are outstanding, FINs are gathered, and no
// message is copied. No client library is part of what is measured.
//
//	n, err := load.Start(ctx, "build/nsqd", "", "--mem-queue-size=1000000")
//	...
//	defer n.Stop()
//	c, err := n.Dial(ctx, load.BigBuffers)
//	...
//	cost, err := n.Measure(func() error {
//		return c.Publish(load.Messages{Topic: "t", Size: 200}, 100_000, 100)
//	})
//	fmt.Println(100_000/cost.Wall.Seconds(), "msg/s", cost.CPU/100_000, "CPU per message")
//
// CPU time is that of nsqd's process, to the nanosecond, and does not depend as wall
// time does on what else the machine does. It and memory are known on Linux only.
package load
